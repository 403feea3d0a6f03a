//! Examples at the end of each command's help. A test reads every line of them with the real parser.

pub(super) const STATUS: &str = "\
Examples:
  headracectl status
  headracectl status --json | jq '.ports[] | {interface, driver, why}'
  headracectl status --json | jq '.warnings, .agent_problems, .last_refusals'";

pub(super) const TOP: &str = "\
Keys: q quits, p pauses, arrows and page keys scroll the ports. Without a terminal it is a line for each look.

Examples:
  headracectl top
  headracectl top --interval 5
  headracectl top --count 1 --json | jq '.workers[] | {core, load, frames}'";

pub(super) const FLOWS: &str = "\
Filters: host, net, port (each with src or dst before it), tcp, udp, icmp, proto, pod, service, state, joined by and, \
or, not and parentheses. Both sides of a translation are looked at. States: new, established, closing, closed, reset; \
of UDP and ICMP one-way and established.

Examples:
  headracectl flows
  headracectl flows 'service default/web:http and not state closed'
  headracectl flows src net 10.244.0.0/16 and dst port 53
  headracectl flows --follow pod default/web-1
  headracectl flows --limit 1000 --json | jq '.[] | .client.source'";

pub(super) const SERVICES: &str = "\
Examples:
  headracectl services
  headracectl services default/web
  headracectl services --json | jq '.[] | {name, begun}'";

pub(super) const ENDPOINTS: &str = "\
Examples:
  headracectl endpoints default/web
  headracectl endpoints --json | jq '.[] | {service, address, place, active}'";

pub(super) const EXPLAIN: &str = "\
It is the real walk, over the tables in force and a copy of the connections. Exit code 0, whatever becomes of the packet.

Examples:
  headracectl explain default/web-1 10.96.0.10:80
  headracectl explain default/web-1 default/api:http
  headracectl explain 10.244.1.7 1.1.1.1
  headracectl explain default/web-1 10.244.2.9:53 --protocol udp
  headracectl explain default/web-1 10.244.2.9:80 --size 1500 --dont-fragment
  headracectl explain default/web-1 10.96.0.10:80 --json | jq '{verdict, reason}'";

pub(super) const TRACE: &str = "\
Filters are those of headracectl flows, and dropped. Times are those of a stage for the packet's whole burst: \
9293 ns/4 is four packets.

Examples:
  headracectl trace --count 3 'host 10.244.1.7 and port 443'
  headracectl trace --count 1 dropped
  headracectl trace pod default/web-1 --json";

pub(super) const CAPTURE: &str = "\
Filters are those of headracectl flows, and dropped. Frames that come in, that leave and that are dropped are in it; \
a dropped one says why in its comment (frame.comment). What is beyond --rate is lost and counted; traffic does not wait.

Examples:
  headracectl capture 'pod default/web-1' --write web.pcapng
  headracectl capture 'udp and port 8472' --write - | tshark -r -
  headracectl capture --port eth0 --port default/web-1 --count 100 --write both.pcapng
  headracectl capture dropped
  headracectl capture 'tcp and port 80' --snap-length 128 --write heads.pcapng";

pub(super) const DROPS: &str = "\
docs/drops.md says of each reason what to do about it.

Examples:
  headracectl drops
  headracectl drops --once
  headracectl drops --once --json | jq '.[] | {reason, count, places}'";

pub(super) const PREFLIGHT: &str = "\
Examples:
  headracectl preflight
  headracectl preflight --uplink eth0 --workers 2
  headracectl preflight --json | jq .";

pub(super) const TAKE_TURN: &str = "\
Examples:
  headracectl take-turn agent
  headracectl take-turn dataplane";

pub(super) const VERSION: &str = "\
Examples:
  headracectl version
  headracectl version --json | jq -e '.contract == .dataplane_contract'";

pub(super) const COMPLETIONS: &str = "\
Examples:
  source <(headracectl completions bash)
  headracectl completions bash > /etc/bash_completion.d/headracectl
  headracectl completions zsh > /usr/share/zsh/vendor-completions/_headracectl
  headracectl completions fish > /usr/share/fish/vendor_completions.d/headracectl.fish";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::Cli;

    #[test]
    fn every_command_has_examples_that_the_parser_takes() {
        for mut command in Cli::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            let (_, examples) =
                help.split_once("Examples:\n").unwrap_or_else(|| panic!("{}", command.get_name()));
            for line in examples.lines() {
                assert!(line.len() <= 96, "it would be wrapped: {line}");
                let from = line.find("headracectl").unwrap_or_else(|| panic!("{line}"));
                let words = words(&line[from..]);
                assert_eq!(words[1], command.get_name(), "{line}");
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    /// As a shell takes the first command of a line apart, as far as the examples need it.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                '|' | '>' | ')' | '#' if !quoted => break,
                c => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }
}
