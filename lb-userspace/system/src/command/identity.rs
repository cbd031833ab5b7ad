//! Environment variables about the user: programs look for their settings below HOME, and some fail
//! without it.

use std::ffi::OsString;
use std::sync::LazyLock;

use nix::unistd::{User, geteuid};

/// PATH, if our own environment has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Variable = (&'static str, OsString);

static OWN: LazyLock<[Variable; 5]> = LazyLock::new(|| {
    let user = User::from_uid(geteuid()).ok().flatten();
    identity(|name| std::env::var_os(name), user.as_ref())
});

/// Environment variables of every command, in addition to its own.
pub(super) fn own() -> impl Iterator<Item = &'static Variable> {
    OWN.iter()
}

/// From our own environment, else from the user database. For a service systemd sets only PATH and
/// LANG of them.
fn identity(own: impl Fn(&str) -> Option<OsString>, user: Option<&User>) -> [Variable; 5] {
    let own = |name| own(name).filter(|value| !value.is_empty());
    let name = || user.map_or_else(|| geteuid().to_string(), |user| user.name.clone()).into();
    let home = || user.map_or_else(|| "/".into(), |user| user.dir.clone().into_os_string());
    [
        ("PATH", own("PATH").unwrap_or_else(|| PATH.into())),
        ("HOME", own("HOME").unwrap_or_else(home)),
        ("USER", own("USER").unwrap_or_else(name)),
        ("LOGNAME", own("LOGNAME").unwrap_or_else(name)),
        // The locale that exists everywhere.
        ("LANG", own("LANG").unwrap_or_else(|| "C".into())),
    ]
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;

    fn values(own: &[(&str, &str)], user: Option<&User>) -> [String; 5] {
        let find = |name: &str| own.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        identity(find, user).map(|(_, value)| value.to_string_lossy().into_owned())
    }

    #[test]
    fn c9_a_command_has_a_home_and_a_name_wherever_it_runs() {
        let root = User::from_uid(Uid::from_raw(0)).expect("a user database").expect("root in it");
        let home = root.dir.to_string_lossy().into_owned();
        // As in a systemd service, and in a bare container.
        assert_eq!(values(&[("PATH", "/bin")], Some(&root)), ["/bin", &home, "root", "root", "C"]);
        assert_eq!(values(&[("HOME", "")], Some(&root)), [PATH, &home, "root", "root", "C"]);
        let uid = geteuid().to_string();
        assert_eq!(values(&[], None), [PATH, "/", &uid, &uid, "C"]);
        // As in a shell.
        let shell = [
            ("PATH", "/opt/bin"),
            ("HOME", "/srv/ops"),
            ("USER", "ops"),
            ("LOGNAME", "ops"),
            ("LANG", "de_DE.UTF-8"),
        ];
        assert_eq!(values(&shell, Some(&root)), shell.map(|(_, value)| value));
    }
}
