//! Routing daemons: BIRD, FRR and ExaBGP from Debian's packages, with the configurations of
//! deploy/routing, and a router that spreads clients over those that announce a VIP.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};

use super::Node;
use super::servers::root;
use crate::workspace;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Bird,
    Frr,
    ExaBgp,
}

/// As in deploy/routing.
const DIRECTOR_AS: &str = "64512";
const ROUTER_AS: &str = "64500";

/// The addresses that deploy/routing has in the place of a director's and a router's.
const DIRECTOR: &str = "192.0.2.2";
const ROUTER: &str = "192.0.2.1";
/// The lines of frr.conf for a session over IPv6, which it leaves out, begin so.
const LEFT_OUT: &str = "! neighbor 2001:db8::1 ";

/// The router's BIRD: it learns from each director, and has all ways that are alike.
const ROUTER_CONF: &str = "\
log stderr all;
router id ROUTER;
protocol device {}
protocol kernel { merge paths on limit 16; ipv4 { import none; export where source = RTS_BGP; }; }
protocol bfd { interface \"*\" { interval 200 ms; multiplier 3; }; }
template bgp director {
  local ROUTER as ROUTER_AS;
  bfd on;
  passive on;
  error wait time 1, 3;
  ipv4 { import where net.len = 32; export none; };
}
";

/// A daemon on a node.
#[derive(Debug)]
pub struct Routing {
    node: Node,
    name: &'static str,
}

impl Routing {
    /// Starts the daemon of a director, which announces to `router`. It reads the very file of
    /// deploy/routing, with the lab's addresses.
    pub fn on_director(node: &Node, daemon: Daemon, router: Ipv4Addr) -> Result<Self> {
        let deployed = |file| deployed(file, node, router);
        let (name, files, start) = match daemon {
            Daemon::Bird => {
                let addresses = deployed("lb-addresses.conf.example")?;
                let files = vec![("bird.conf", deployed("bird.conf")?), ("lb-addresses.conf", addresses)];
                ("bird", files, START_BIRD)
            }
            Daemon::Frr => ("frr", vec![("frr.conf", deployed("frr.conf")?)], START_FRR),
            Daemon::ExaBgp => {
                let script = deployed("exabgp-lb.py")?;
                let files = vec![("exabgp.conf", deployed("exabgp.conf")?), ("exabgp-lb.py", script)];
                ("exabgp", files, START_EXABGP)
            }
        };
        Self::start(node, name, &files, start)
    }

    /// Starts FRR on a director, which announces to the router over IPv6 too: with the lines of its
    /// file that are for that.
    pub fn frr_over_ipv6(node: &Node, router: &Node) -> Result<Self> {
        let conf = deployed("frr.conf", node, router.address())?;
        ensure!(conf.contains(LEFT_OUT), "frr.conf has no line that begins with {LEFT_OUT:?}");
        let conf = conf.replace(LEFT_OUT, &format!("neighbor {} ", router.ipv6()));
        Self::start(node, "frr", &[("frr.conf", conf)], START_FRR)
    }

    /// Starts the router's daemon, which listens to one director over IPv6 and takes whatever that
    /// announces.
    pub fn on_router_over_ipv6(node: &Node, director: &Node) -> Result<Self> {
        let conf = format!(
            "log stderr all;\nrouter id {};\nprotocol device {{}}\n\
             protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol bgp director {{ local {} as {ROUTER_AS}; neighbor {} as {DIRECTOR_AS}; passive on; \
             error wait time 1, 3; ipv6 {{ import all; export none; }}; }}\n",
            node.address(),
            node.ipv6(),
            director.ipv6()
        );
        Self::start(node, "bird", &[("bird.conf", conf)], START_BIRD)
    }

    /// Starts the router's daemon, which listens to these directors.
    pub fn on_router(node: &Node, directors: &[Ipv4Addr]) -> Result<Self> {
        let sessions = (0..).zip(directors).map(|(number, director)| {
            format!(
                "protocol bgp director{number} from director {{ neighbor {director} as {DIRECTOR_AS}; }}\n"
            )
        });
        let conf: String = [ROUTER_CONF.to_owned()].into_iter().chain(sessions).collect();
        let conf = conf.replace("ROUTER_AS", ROUTER_AS).replace("ROUTER", &node.address().to_string());
        Self::start(node, "bird", &[("bird.conf", conf)], START_BIRD)
    }

    fn start(node: &Node, name: &'static str, files: &[(&str, String)], start: &str) -> Result<Self> {
        ensure!(root::is_complete(), "the routing daemons are not there: run `cargo xtask setup`");
        let folder = node.folder()?.join(name);
        fs::create_dir_all(&folder)?;
        let start = ("start", start.to_owned());
        for (file, content) in files.iter().chain([&start]) {
            let path = folder.join(file);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let script = workspace::root().join("tests/lab/src/lab/servers/enter.sh");
        let root = root::path();
        let mut words = vec!["--mount", "--propagation", "private", "sh"];
        for path in [&script, &root, &folder] {
            words.push(path.to_str().context("a path of the lab is not UTF-8")?);
        }
        words.push("0");
        node.start(name, "unshare", &words)?;
        Ok(Self { node: node.clone(), name })
    }

    /// The end of its log, for error messages.
    pub fn log_tail(&self) -> String {
        self.node.state().log_tail(&self.node.record(self.name))
    }
}

/// A file of deploy/routing, with the lab's addresses.
fn deployed(file: &str, node: &Node, router: Ipv4Addr) -> Result<String> {
    let path = workspace::root().join("deploy/routing").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.replace(DIRECTOR, &node.address().to_string()).replace(ROUTER, &router.to_string());
    Ok(text.replace("/etc/exabgp/", "/srv/"))
}

const START_BIRD: &str = "exec bird -f -c /srv/bird.conf -s /tmp/bird.ctl -P /tmp/bird.pid\n";

/// Each daemon has its own process, and vtysh tells each its part of the file.
const START_FRR: &str = "\
mkdir /tmp/frr
chown frr:frr /tmp/frr
echo 'username root nopassword' > /srv/vtysh.conf
options='-u frr -g frr -A 127.0.0.1 --vty_socket /tmp/frr -z /tmp/frr/zserv.api --log stdout'
/usr/lib/frr/zebra $options -f /dev/null -i /tmp/frr/zebra.pid &
/usr/lib/frr/bgpd $options -f /dev/null -i /tmp/frr/bgpd.pid &
until test -S /tmp/frr/zebra.vty && test -S /tmp/frr/bgpd.vty; do sleep 0.1; done
vtysh --vty_socket /tmp/frr --config_dir /srv -b
wait
";

const START_EXABGP: &str = "\
export exabgp_daemon_user=root exabgp_daemon_drop=false exabgp_log_destination=stdout exabgp_api_cli=false
exec python3-exabgp /srv/exabgp.conf
";
