//! What a book holds.

use proptest::prelude::*;

use super::*;

pub(crate) fn any_order() -> impl Strategy<Value = Order> {
    let wish = prop_oneof![
        Just(Wish::Drain),
        Just(Wish::Serve),
        any::<u16>().prop_map(Wish::Weight),
        Just(Wish::ConfiguredWeight),
    ];
    let texts = ("[a-c]{1,2}", prop::option::of("[a-c]{1,2}"), "[a-z ]{0,20}", "\\PC{0,20}");
    (0..9_u64, 0..16_u8, wish, texts).prop_map(|(time_ms, node, wish, (server, service, by, reason))| Order {
        version: Version { time_ms, node },
        subject: Subject { server, service },
        wish,
        by,
        reason,
    })
}

fn order(time_ms: u64, server: &str, service: Option<&str>, wish: Wish) -> Order {
    let subject = Subject { server: server.to_owned(), service: service.map(str::to_owned) };
    Order {
        version: Version { time_ms, node: 0 },
        subject,
        wish,
        by: "kim".to_owned(),
        reason: String::new(),
    }
}

fn names(server: &str) -> [String; 3] {
    [server.to_owned(), "192.0.2.21".to_owned(), format!("{server}:80")]
}

#[test]
fn the_newest_order_holds_whichever_name_it_has_for_the_server() {
    let book = Book::from_iter([
        order(1, "www1", None, Wish::Drain),
        order(2, "www1", None, Wish::Weight(5)),
        order(3, "www1:80", None, Wish::Serve),
        order(4, "192.0.2.21", Some("web"), Wish::Drain),
    ]);
    let time = |order: &Order| order.version.time_ms;
    let drained = |service, server: &str| book.in_force(Aspect::Drain, service, &names(server)).map(time);
    assert_eq!(drained("web", "www1"), Some(4));
    assert_eq!(drained("tls", "www1"), None, "the newest one for it has undone the drain");
    assert_eq!(drained("web", "www2"), Some(4), "it has the address");
    let weight = |server: &str| book.in_force(Aspect::Weight, "tls", &names(server)).map(time);
    assert_eq!((weight("www1"), weight("www2")), (Some(2), None));
}

#[test]
fn an_order_is_newer_than_all_that_were_known_where_it_was_given() {
    let mut book = Book::default();
    assert_eq!(book.next_version(NodeId(3), 100), Version { time_ms: 100, node: 3 });
    book.merge(order(5000, "www1", None, Wish::Drain));
    assert_eq!(book.next_version(NodeId(1), 100).time_ms, 5001, "a clock that is behind");
    assert_eq!(book.next_version(NodeId(1), 9000).time_ms, 9000);
    book.merge(order(u64::MAX, "www2", None, Wish::Drain));
    assert_eq!(book.next_version(NodeId(1), 9000).time_ms, u64::MAX, "and nothing panics");
}

#[test]
fn a_full_book_forgets_what_has_undone_others_and_nothing_else() {
    let name = |number: usize| format!("www{number}");
    let drains = (0..MOST - 1).map(|number| order(100, &name(number), None, Wish::Drain));
    let mut book: Book = drains.collect();
    assert!(book.merge(order(1, "one", None, Wish::Serve)));
    assert!(book.merge(order(2, "two", None, Wish::Serve)), "the other one gives way");
    assert!(!book.merge(order(1, "one", None, Wish::Serve)), "it is the oldest");
    assert!(book.has_room());
    book.merge(order(3, "three", None, Wish::Drain));
    assert!(!book.has_room());
    assert_eq!(book.orders().count(), MOST);
    assert_eq!(book, book.orders().cloned().collect(), "the digest too");
}

#[test]
fn what_no_book_takes() {
    let mut book = Book::default();
    let good = order(1, "www1", None, Wish::Drain);
    let faulty = [
        Order { subject: Subject { server: String::new(), service: None }, ..good.clone() },
        Order { subject: Subject { service: Some(String::new()), ..good.subject.clone() }, ..good.clone() },
        Order { by: "x".repeat(BY + 1), ..good.clone() },
        Order { version: Version { time_ms: 1, node: 16 }, ..good.clone() },
    ];
    for order in faulty {
        assert!(!book.merge(order.clone()), "{order:?}");
    }
    assert!(book.merge(good));
}

proptest! {
    #[test]
    fn the_sequence_of_orders_does_not_matter(orders in prop::collection::vec(any_order(), 0..30), seed in any::<u64>()) {
        let book: Book = orders.iter().cloned().collect();
        let mut other = orders.clone();
        let length = other.len().max(1);
        for place in 0..other.len() {
            other.swap(place, (seed as usize).wrapping_mul(place + 1) % length);
        }
        let twice: Book = other.iter().chain(&orders).cloned().collect();
        prop_assert_eq!(&book, &twice);
        prop_assert_eq!(book.digest(), book.orders().cloned().collect::<Book>().digest());
    }

    #[test]
    fn an_order_is_the_same_behind_a_heartbeat(order in any_order()) {
        let mut bytes = Vec::new();
        wire::put(&mut bytes, &order);
        prop_assert!(bytes.len() <= wire::LONGEST);
        let mut rest = &bytes[..];
        prop_assert_eq!(wire::take(&mut rest), Some(order));
        prop_assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            prop_assert_eq!(wire::take(&mut &bytes[..cut]), None);
        }
    }
}
