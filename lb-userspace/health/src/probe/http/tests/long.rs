//! Pages of more bytes than a text of a few lines: what is searched, and what is digested.

use tokio::io::AsyncReadExt;

use super::*;

const MIB: usize = 1 << 20;

/// A page with `text` at this place.
fn page(text: &str, at: usize, length: usize) -> Vec<u8> {
    let mut page = vec![b'x'; length];
    page[at..at + text.len()].copy_from_slice(text.as_bytes());
    page
}

/// Serves the page with these fields in the header, however often.
async fn serving(fields: &str, page: &[u8]) -> TestServer {
    let answer = [format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), page].concat();
    test_servers::serving(move |mut stream| {
        let answer = answer.clone();
        async move {
            test_servers::read_header(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

async fn ask(page: &[u8], check: &HttpProbe) -> Result<(), String> {
    run(&serving("", page).await, check).await
}

fn matching(pattern: &str) -> HttpProbe {
    HttpProbe { expected: expected(None, Some(pattern)), ..check(None) }
}

#[tokio::test]
async fn a_digest_is_of_long_pages_too() {
    for length in [300_000, 2 * MIB] {
        let page = page("Test Page", length / 4, length);
        let digest = Some(Sha256::digest(&page).into());
        let by_length = serving(&format!("Content-Length: {length}\r\n"), &page).await;
        assert_eq!(run(&by_length, &HttpProbe { digest, ..check(None) }).await, Ok(()), "{length}");
        assert_eq!(ask(&page, &HttpProbe { digest, ..check(None) }).await, Ok(()), "{length}");
        // What is found before the end does not end the digest.
        assert_eq!(ask(&page, &HttpProbe { digest, ..check(Some("Test Page")) }).await, Ok(()), "{length}");
        let both = HttpProbe { digest, ..matching("Test [A-Z]age") };
        assert_eq!(ask(&page, &both).await, Ok(()), "{length}");
        let other = HttpProbe { digest: Some([0; 32]), ..check(None) };
        let words = ask(&page, &other).await.expect_err("another digest");
        assert!(words.starts_with(&format!("the answer's {length} bytes have the digest ")), "{words}");
    }
}

#[tokio::test]
async fn a_text_is_found_behind_much_else() {
    for at in [255 * 1024, 300_000, 3 * MIB] {
        let page = page("Test Page", at, at + 1000);
        assert_eq!(ask(&page, &check(Some("Test Page"))).await, Ok(()), "{at}");
    }
    let page = page("ready", 300_000, 3 * MIB);
    let words = ask(&page, &check(Some("Test Page"))).await.expect_err("no such text");
    assert!(words.starts_with("no 'Test Page' in the answer's 3145728 bytes: got 'xxx"), "{words}");
}

#[tokio::test]
async fn a_match_is_looked_for_in_the_first_mebibyte() {
    // The last one is just before the limit, long after the search before.
    for at in [300_000, 900_000, MIB - 1000] {
        for length in [at + 5, MIB, 3 * MIB] {
            let page = page("ready", at, length.max(at + 5));
            assert_eq!(ask(&page, &matching("rea[a-z]y")).await, Ok(()), "{at} of {length}");
        }
    }
    // An expression and a text, which is looked for further.
    let mut both = page("ready", MIB - 1000, 3 * MIB);
    both[2 * MIB..2 * MIB + 9].copy_from_slice(b"Test Page");
    let check = HttpProbe { expected: expected(Some("Test Page"), Some("rea[a-z]y")), ..check(None) };
    assert_eq!(ask(&both, &check).await, Ok(()));
}

#[tokio::test]
async fn what_is_too_long_says_what_to_do() {
    let late = page("ready", 2 * MIB, 3 * MIB);
    let words = ask(&late, &matching("rea[a-z]y")).await.expect_err("too late");
    let begin = "no match for 'rea[a-z]y' in the first 1048576 bytes of the answer: got 'xxx";
    let end = "; the check looks no further: use `receive`, or ask for a shorter page";
    assert!(words.starts_with(begin) && words.ends_with(end), "{words}");
    // `x$` matches wherever the search ends, but not this page.
    let words = "the answer has more than 1048576 bytes, too many for a match at its end: use `receive`, or ask \
                 for a shorter page";
    assert_eq!(ask(&page("y", 3 * MIB - 1, 3 * MIB), &matching("x$")).await, fails(words));
    // What is compressed would not be found in more bytes either.
    let compressed = serving("Content-Encoding: gzip\r\n", &late).await;
    let words = run(&compressed, &matching("rea[a-z]y")).await.expect_err("compressed");
    assert!(words.contains("; the server compresses it (Content-Encoding: gzip)"), "{words}");
}
