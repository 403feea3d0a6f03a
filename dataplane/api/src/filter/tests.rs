use proptest::prelude::*;

use super::*;

fn subject() -> Subject {
    let end = |text: &str| text.parse::<std::net::SocketAddr>().map(|s| (s.ip(), s.port())).unwrap();
    let tuple = |a: &str, b: &str| Tuple { source: end(a), destination: end(b) };
    Subject {
        protocol: 6,
        tuples: [tuple("10.1.0.2:4000", "10.96.0.10:80"), tuple("10.1.0.2:4000", "10.1.1.9:8080")],
        state: Some(State::Established),
        dropped: false,
    }
}

#[track_caller]
fn holds(text: &str) -> bool {
    text.parse::<Filter>().unwrap_or_else(|e| panic!("{e}")).matches(&subject())
}

#[test]
fn terms_hold_for_either_side_of_a_translation() {
    for text in [
        "",
        "tcp",
        "host 10.96.0.10",
        "10.1.1.9",
        "dst 10.1.1.0/24 and port 8080",
        "src port 4000",
        "net 10.1.0.0/16 tcp",
        "udp or tcp and port 80",
        "not (udp or icmp)",
        "not not tcp",
        "state established",
        "proto 6",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "udp",
        "src 10.96.0.10",
        "dst port 4000",
        "state new",
        "dropped",
        "not tcp",
        "(udp or tcp) and port 81",
        "pod default/unresolved",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn errors_point_at_the_column() {
    for (text, column) in [
        ("tcp and prot 80", 9),
        ("port http", 6),
        ("port 70000", 6),
        ("(tcp", 5),
        ("tcp)", 4),
        ("src tcp", 5),
        ("tcp and", 8),
        ("state open", 7),
        ("pod web", 5),
        ("host 10.0.0.300", 6),
        ("ü and x", 1),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        let shown = error.to_string();
        let (line, caret) = (shown.lines().nth(1).unwrap(), shown.lines().nth(2).unwrap());
        assert_eq!(line.trim_start(), text);
        assert_eq!(caret.chars().count(), column + 2, "{shown}");
    }
}

#[test]
fn names_are_resolved_or_refused_where_they_stand() {
    let text = "tcp and pod default/web";
    let filter: Filter = text.parse().unwrap();
    let known = |_: &Term| Some(vec![End { address: "10.1.1.9".parse().unwrap(), port: Some(8080) }]);
    assert!(filter.clone().resolve(text, &known).unwrap().matches(&subject()));
    let error = filter.resolve(text, &|_| None).unwrap_err();
    assert_eq!(error.column, 9);
    assert!(error.problem.contains("default/web"), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let text = "(".repeat(2000) + "tcp" + &")".repeat(2000);
    assert!(text.parse::<Filter>().unwrap_err().problem.contains("deeper"));
    assert!("tcp and ".repeat(2000).parse::<Filter>().is_err());
}

proptest! {
    /// Whatever comes over the socket is read or refused, and a refusal lies within the text.
    #[test]
    fn no_text_is_trouble(text in "[ ()a-z0-9./:-]{0,60}|(tcp|and|or|not|src|port|80|10.0.0.1|\\(|\\)| ){0,30}|.{0,40}") {
        match text.parse::<Filter>() {
            Ok(filter) => { filter.matches(&subject()); }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            }
        }
    }
}
