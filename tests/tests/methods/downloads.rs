//! 100 MB by curl, whose first full packets do not fit into the link before the client: what the
//! router says of that goes to the VIP, and must reach the server that has sent them.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::bed::{Bed, Case};

const NAME: &str = "large.bin";
const BYTES: usize = 100 << 20;

/// What is downloaded.
pub(crate) struct Page {
    digest: String,
}

impl Page {
    /// Both servers have it.
    pub(crate) fn offer(bed: &Bed) -> Self {
        let mut page = vec![0; BYTES];
        fastrand::Rng::with_seed(7).fill(&mut page);
        let [one, other] = [&bed.talk.www1, &bed.talk.www2].map(|web| web.page(NAME).expect("a folder"));
        fs::write(&one, page).expect("a page");
        fs::hard_link(&one, other).expect("the same page");
        let mut sum = Command::new("sh");
        Self { digest: digest(sum.args(["-c", "exec sha256sum <\"$0\""]).arg(one)) }
    }

    pub(crate) fn download(&self, bed: &Bed, case: Case) {
        const CURL: &str = "curl -q --silent --show-error --fail --noproxy '*' --max-time 300 --interface \"$0\" \"$1\" \
                            | sha256sum";
        let url = format!("http://{}/{NAME}", SocketAddr::new(case.vip(), 80));
        let [client, _] = case.clients();
        let mut curl = bed.far.command("sh");
        assert_eq!(digest(curl.args(["-c", CURL, &client.to_string(), &url])), self.digest, "{case:?}");
        let ways = bed.servers().map(|server| case.way_back(server));
        assert!(ways.iter().any(|way| way.contains("mtu 1400")), "{case:?}: nobody has learnt it: {ways:?}");
    }
}

fn digest(command: &mut Command) -> String {
    let output = command.output().expect("sh runs");
    let [digest, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && error.is_empty(), "{digest}{error}");
    digest.into_owned()
}
