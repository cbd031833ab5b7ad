//! Signatures, rotation, and what a key file must look like.

use std::os::unix::fs::PermissionsExt;

use lb_system::private_file::PrivateFileError;

use super::file::{KeyFileError, ParseError, Wrong, parse, read};
use super::*;

const LONG: &str = "000102030405060708090a0b0c0d0e0f";

fn keys(text: &str) -> Keys {
    parse(text).expect("a good key file")
}

fn wrong(text: &str) -> (usize, Wrong) {
    match parse(text).expect_err("a bad key file") {
        ParseError::Line(line, wrong) => (line, wrong),
        ParseError::Empty => panic!("not about a line"),
    }
}

/// RFC 4231, test case 2: key "Jefe" (through the constructor; the file would refuse so short a
/// key).
#[test]
fn the_tag_is_half_an_hmac_sha_256() {
    let keys = Keys::new([(KeyId(1), b"Jefe".as_slice())], KeyId(1)).unwrap();
    let tag = keys.sign(b"what do ya want for nothing?");
    assert_eq!(
        tag,
        [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7]
    );
}

#[test]
fn keys_are_rotated_without_a_stop() {
    let old = keys(&format!("1 {LONG}"));
    let both = keys(&format!("1 {LONG}\n2 another-long-secret"));
    let both_signing_new = keys(&format!("1 {LONG}\n2 another-long-secret\nsign 2"));
    let new = keys("2 another-long-secret");
    let understands = |receiver: &Keys, sender: &Keys| {
        receiver.verify(sender.sign_with(), b"message", &sender.sign(b"message"))
    };
    for (one, next) in [(&old, &both), (&both, &both_signing_new), (&both_signing_new, &new)] {
        assert_eq!(understands(one, next), Ok(()));
        assert_eq!(understands(next, one), Ok(()));
    }
    assert_eq!(understands(&new, &old), Err(Refused::UnknownKey));
    let other = keys("2 quite-another-secret");
    assert_eq!(understands(&new, &other), Err(Refused::BadMac));
}

#[test]
fn the_first_key_signs_unless_told_otherwise() {
    assert_eq!(keys(&format!("# comment\n\n 9 {LONG}\n1 {LONG}")).sign_with(), KeyId(9));
    assert_eq!(keys(&format!("sign 1\n9 {LONG}\n1 {LONG}")).sign_with(), KeyId(1));
}

#[test]
fn hexadecimal_digits_are_bytes() {
    let bytes: Vec<u8> = (0..16).collect();
    let direct = Keys::new([(KeyId(1), bytes.as_slice())], KeyId(1)).unwrap();
    assert_eq!(keys(&format!("1 {LONG}")).sign(b"x"), direct.sign(b"x"));
    assert_eq!(keys(&format!("1 {}", LONG.to_uppercase())).sign(b"x"), direct.sign(b"x"));
}

#[test]
fn a_bad_line_is_named() {
    assert_eq!(parse("# nothing\n").unwrap_err(), ParseError::Empty);
    assert_eq!(wrong("word"), (1, Wrong::Syntax));
    assert_eq!(wrong("256 0123456789abcdefx"), (1, Wrong::Syntax));
    assert_eq!(wrong("\n1 short"), (2, Wrong::TooShort(5)));
    assert_eq!(wrong("1 deadbeefdeadbeef"), (1, Wrong::HexLength(16)));
    assert_eq!(wrong(&format!("1 {LONG}a")), (1, Wrong::HexLength(33)));
    assert_eq!(wrong("1 two long-enough-words"), (1, Wrong::Blanks));
    assert_eq!(wrong(&format!("1 {LONG}\n1 {LONG}")), (2, Wrong::Twice(1, 1)));
    assert_eq!(wrong(&format!("1 {LONG}\nsign 1\nsign 1")), (3, Wrong::SignTwice(2)));
    assert_eq!(wrong(&format!("1 {LONG}\nsign 2")), (2, Wrong::NoSuchKey(2)));
}

#[test]
fn the_talks_authkeys_are_refused_with_the_reason() {
    assert_eq!(wrong("auth 1\n1 crc\n2 sha1 HI!"), (1, Wrong::AuthkeysAuth));
    assert_eq!(wrong("1 crc"), (1, Wrong::Authkeys("crc".into())));
    assert_eq!(wrong("2 sha1 HI!"), (1, Wrong::Authkeys("sha1".into())));
    let message = wrong("3 md5 Hello!").1.to_string();
    assert!(
        message.contains("`md5` is no protection today") && message.contains("HMAC-SHA-256"),
        "{message}"
    );
    assert!(!message.contains("Hello"), "{message}");
}

#[test]
fn keys_are_not_shown() {
    let keys = keys("1 a-secret-of-16-characters\n2 another-long-secret");
    assert_eq!(format!("{keys:?}"), "Keys { accepted: [1, 2], sign_with: 1, .. }");
    let error = format!("{:?} {}", wrong("1 a-secret with-blanks"), wrong("1 secret").1);
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_file_that_others_may_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, format!("1 {LONG}\n")).unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    };
    for mode in [0o644, 0o640, 0o604, 0o620, 0o610] {
        let error = with_mode(mode).unwrap_err();
        assert!(matches!(error, KeyFileError::File(PrivateFileError::Mode { .. })), "{error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
    assert_eq!(with_mode(0o600).unwrap().sign_with(), KeyId(1));
    assert_eq!(with_mode(0o400).unwrap().sign_with(), KeyId(1));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(
            with_mode(0o600).unwrap_err(),
            KeyFileError::File(PrivateFileError::Owner { owner: 12345, .. })
        ));
    }
}

#[test]
fn what_is_no_key_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path(), private).unwrap();
    assert!(matches!(read(folder.path()), Err(KeyFileError::File(PrivateFileError::NotAFile { .. }))));
    assert!(matches!(
        read(&folder.path().join("missing")),
        Err(KeyFileError::File(PrivateFileError::Io { .. }))
    ));
    let long = folder.path().join("long");
    std::fs::write(&long, vec![b'#'; 70_000]).unwrap();
    std::fs::set_permissions(&long, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(read(&long), Err(KeyFileError::File(PrivateFileError::TooLong { .. }))));
    std::fs::write(&long, "1 secret").unwrap();
    let error = read(&long).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1: ", long.display())), "{error}");
}
