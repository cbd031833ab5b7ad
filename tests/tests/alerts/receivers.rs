//! Receivers on a node: exim, nginx and Alertmanager.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::servers::catalog::{EXIM, NGINX};
use lb_lab::lab::{Alertmanager, Node, RealServer};
use serde_json::Value;

use super::PATIENCE;

/// Password of the login, and token of the webhook.
pub(crate) const PASSWORD: &str = "s3cret-of-the-lab";

/// By STARTTLS at port 587 and by TLS at port 465, after a login alone. What comes is appended to
/// the file of its recipient.
const MAIL: &str = r#"
primary_hostname = mail.lab.example
daemon_smtp_ports = 25 : 465 : 587
tls_on_connect_ports = 465
local_interfaces = 0.0.0.0
spool_directory = /srv/spool
log_file_path = /srv/%slog
exim_user = lab
exim_group = lab
deliver_drop_privilege = true
never_users =
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = /srv/cert.pem
tls_privatekey = /srv/key.pem
auth_advertise_hosts = ${if def:tls_in_cipher {*}{}}
acl_smtp_rcpt = recipient

begin acl
recipient:
  require authenticated = *
          message = log in first
  accept

begin routers
inbox:
  driver = accept
  transport = inbox

begin transports
inbox:
  driver = appendfile
  file = /srv/${if eq{$local_part}{tls}{tls}{starttls}}
  user = lab
  group = lab

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{lb}}{eq{$auth3}{PASSWORD}}}}
  server_set_id = $auth2
"#;

/// Writes down each request with its body.
const HOOK: &str = r#"
daemon off;
worker_processes 1;
pid pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_body_buffer_size 128k;
    client_body_in_single_buffer on;
    log_format hook escape=json '{"authorization":"$http_authorization","body":"$request_body"}';
    server {
        listen 0.0.0.0:443 ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        location = /hook {
            access_log /srv/hooks hook;
            proxy_pass http://127.0.0.1:8081/;
        }
    }
    server {
        listen 127.0.0.1:8081;
        location / { return 204; }
    }
}
"#;

pub(crate) struct Receivers {
    pub mail: RealServer,
    hook: RealServer,
    alertmanager: Alertmanager,
}

impl Receivers {
    pub(crate) fn start(node: &Node) -> Result<Self> {
        let hook = RealServer::new(node, &NGINX)?;
        hook.write("names", &format!("subjectAltName=IP:{}", node.address()))?;
        hook.write("nginx.conf", HOOK)?;
        hook.start()?;
        let mail = RealServer::new(node, &EXIM)?;
        mail.write("exim.conf", &MAIL.replace("PASSWORD", PASSWORD))?;
        for file in ["cert.pem", "key.pem"] {
            mail.write(file, &fs::read_to_string(hook.folder()?.join(file))?)?;
        }
        mail.start()?;
        let receivers = Self { mail, hook, alertmanager: Alertmanager::start(node)? };
        fs::write(receivers.secret_file()?, format!("{PASSWORD}\n"))?;
        Ok(receivers)
    }

    /// The certificate that signed those of the receivers.
    pub(crate) fn root(&self) -> PathBuf {
        self.hook.folder().expect("nginx has a folder").join("root.pem")
    }

    /// The file with password and token.
    pub(crate) fn secret_file(&self) -> Result<PathBuf> {
        Ok(self.hook.folder()?.join("secret"))
    }

    /// Waits for a mail with these words, and returns it.
    pub(crate) fn wait_for_mail(&self, recipient: &str, words: &str) -> String {
        let inbox = self.mail.folder().expect("exim has a folder").join(recipient);
        wait(&format!("a mail to {recipient} with {words:?}"), || {
            let text = fs::read_to_string(&inbox).with_context(|| {
                let log = self.mail.folder().map(|folder| folder.join("mainlog"));
                let log = log.and_then(|log| Ok(fs::read_to_string(log)?)).unwrap_or_default();
                format!("no mail; exim says {log}")
            })?;
            let mut mails = text.split("\nFrom ");
            let found = mails.find(|mail| mail.contains(words)).map(str::to_owned);
            found.with_context(|| format!("other mails: {text}"))
        })
    }

    /// Waits for a message that is `wanted`, and returns it. All have the token.
    pub(crate) fn wait_for_hook(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let log = self.hook.folder().expect("nginx has a folder").join("hooks");
        wait(&format!("a message: {what}"), || {
            let text = fs::read_to_string(&log)?;
            for line in text.lines() {
                let request: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(request["authorization"] == format!("Bearer {PASSWORD}"), "{line}");
                let body = request["body"].as_str().context("no body")?;
                let body: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
                ensure!(body["schema"] == "lb/alerts/1", "{body}");
                if wanted(&body) {
                    return Ok(body);
                }
            }
            anyhow::bail!("other messages: {text}")
        })
    }

    /// Waits until Alertmanager has an alert of this name, or none.
    pub(crate) fn wait_for_alert(&self, name: &str, there: bool) -> Option<Value> {
        wait(&format!("{name}: {there}"), || {
            let alerts = self.alertmanager.alerts(name)?;
            ensure!(alerts.is_empty() != there, "{alerts:?}");
            Ok(alerts.into_iter().next())
        })
    }
}

fn wait<T>(what: &str, look: impl Fn() -> Result<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "waited for {what}; the last answer: {error:#}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
