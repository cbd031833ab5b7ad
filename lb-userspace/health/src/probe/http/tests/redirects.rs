//! Redirects: curl and HAProxy take them for good answers, and a browser follows them. They are not
//! the page that a check expects.

use super::*;

type Pieces = &'static [&'static str];

async fn ask(answer: Pieces, check: &HttpProbe) -> Result<(), String> {
    run(&test_servers::answering(answer).await, check).await
}

const TO_NEW: Pieces = &["HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 9\r\n\r\nTest Page"];

#[tokio::test]
async fn a_server_that_redirects_is_up() {
    let rows: [(&str, Pieces); 14] = [
        ("for good", &["HTTP/1.1 301 Moved Permanently\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n"]),
        ("to a page", TO_NEW),
        ("to what is to be seen", &["HTTP/1.1 303 See Other\r\nLocation: /seen\r\n\r\n"]),
        ("for now", &["HTTP/1.1 307 Temporary Redirect\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n"]),
        ("by the latest status", &["HTTP/1.1 308 Permanent Redirect\r\nLocation: /\r\n\r\n"]),
        ("to TLS", &["HTTP/1.1 301 Moved Permanently\r\nLocation: https://www.example.org/\r\n\r\n"]),
        ("to another port", &["HTTP/1.1 302 Found\r\nLocation: http://www.example.org:8080/\r\n\r\n"]),
        ("to itself", &["HTTP/1.1 302 Found\r\nLocation: /.testpage\r\n\r\n"]),
        ("by a path that is relative", &["HTTP/1.1 302 Found\r\nlocation: new\r\n\r\n"]),
        ("to nowhere", &["HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"]),
        ("to an empty place", &["HTTP/1.1 302 Found\r\nLocation:\r\n\r\n"]),
        ("in the words of an old server", &["HTTP/1.0 302 Moved Temporarily\r\nLocation: /new\r\n\r\n"]),
        ("to what one may choose", &["HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n"]),
        ("not at all", &["HTTP/1.1 304 Not Modified\r\n\r\n"]),
    ];
    for (name, answer) in rows {
        for method in [Method::Get, Method::Head] {
            let check = HttpProbe { method, ..check(None) };
            assert_eq!(ask(answer, &check).await, Ok(()), "{name}: {method:?}");
        }
    }
    let missing = &["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"];
    assert_eq!(ask(missing, &check(None)).await, fails("status 404 Not Found, expected 200-399"));
}

#[tokio::test]
async fn a_redirect_is_not_the_page_that_is_expected() {
    let words = "status 302 Found to '/new', expected 200-299; redirects are not followed: name that page in \
                 `request`, or set `status: 200-399` without `receive`, `matches` and `digest`";
    for check in [
        check(Some("Test Page")),
        HttpProbe { expected: expected(None, Some("Page$")), ..check(None) },
        HttpProbe { digest: Some(Sha256::digest("Test Page").into()), ..check(None) },
    ] {
        assert_eq!(ask(TO_NEW, &check).await, fails(words), "{check:?}");
    }
    // Without a target there is nothing to name.
    let unmodified = &["HTTP/1.1 304 Not Modified\r\n\r\n"];
    let words = "status 304 Not Modified, expected 200-299";
    assert_eq!(ask(unmodified, &check(Some("Test Page"))).await, fails(words));
    // The words of a server are not repeated, so the reason stays short.
    let wordy = &["HTTP/1.1 301 Gone to the other side of the town\r\nLocation: /new\r\n\r\n"];
    let words = ask(wordy, &check(Some("Test Page"))).await.expect_err("no page");
    assert!(words.starts_with("status 301 Moved Permanently to '/new', expected 200-299; "), "{words}");
}

#[tokio::test]
async fn statuses_that_are_configured_count_as_they_are() {
    let with = |statuses, receive| HttpProbe { status: Some(Statuses(vec![statuses])), ..check(receive) };
    assert_eq!(ask(TO_NEW, &with(302..=302, None)).await, Ok(()));
    let words = "status 302 Found to '/new', expected 200-299";
    assert_eq!(ask(TO_NEW, &with(200..=299, None)).await, fails(words));
    // The redirect has a page of its own.
    assert_eq!(ask(TO_NEW, &with(200..=399, Some("Test Page"))).await, Ok(()));
    let words = "no 'Welcome' in the answer's 9 bytes: got 'Test Page'";
    assert_eq!(ask(TO_NEW, &with(200..=399, Some("Welcome"))).await, fails(words));
}
