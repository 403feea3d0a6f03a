//! The status for people: a few tables, and sentences where something needs attention.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use comfy_table::{ContentArrangement, Table, presets};
use headrace_api::API_VERSION;

use super::{Port, Status, Traffic};

/// Ports that are named where a reason's drops are told.
const PLACES: usize = 3;

/// The whole status as text, at most `width` columns wide where a width is given.
pub fn table(status: &Status, width: Option<u16>) -> String {
    let tables = Tables { width };
    let mut text = String::new();
    section(&mut text, "", &summary(status));
    section(&mut text, "Attention", &attention(status));
    section(&mut text, "Ports", &tables.ports(status));
    section(&mut text, "Host ports and limits", &promises(status));
    section(&mut text, "Why these modes", &reasons(status));
    section(&mut text, "Workers", &tables.workers(status));
    section(&mut text, "Drops", &tables.drops(status));
    section(&mut text, "Frames", &tables.frames(status));
    section(&mut text, "Peers", &tables.peers(status));
    section(&mut text, "Flows", &tables.flows(status));
    section(&mut text, "Shortcut", &tables.shortcut(status));
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    if body.is_empty() {
        return;
    }
    if !title.is_empty() {
        let _ = writeln!(text, "\n{title}");
    }
    let _ = writeln!(text, "{body}");
}

fn summary(s: &Status) -> String {
    let state = match s.state_source.as_str() {
        "controller" => "fed by the agent".to_owned(),
        "kept" => "as the agent left it; no agent is connected now".to_owned(),
        "saved" => "from an earlier run; no agent is connected".to_owned(),
        "file" => "from its state file; no agent is wanted".to_owned(),
        _ => "none; no agent has connected yet".to_owned(),
    };
    format!(
        "headrace-dataplane {}, up {}\nstate: {state} (generation {}), {} with {}\n\
         tables: {}, the last one {} ago",
        s.version,
        duration(s.uptime_seconds),
        s.generation,
        plural(s.services.into(), "service"),
        plural(s.endpoints.into(), "endpoint"),
        plural(s.tables.updates, "update"),
        duration(s.tables.age_seconds),
    )
}

fn attention(s: &Status) -> String {
    let device = |p: &Port| if p.interface.is_empty() { p.role.clone() } else { p.interface.clone() };
    let ports =
        s.ports.iter().filter(|p| !p.ready).map(|p| format!("{} is not ready: {}", device(p), p.problem));
    let refusals =
        s.last_refusals.iter().map(|r| format!("refused: {}: {}: {}", r.resource, r.field, r.reason));
    let agent = s.agent_problems.iter().map(|p| format!("agent: {p}"));
    let version = (s.api_version != API_VERSION).then(|| {
        format!(
            "the dataplane speaks contract {}, this headracectl {API_VERSION}: some of what follows may be missing; use the \
             headracectl that came with it",
            s.api_version
        )
    });
    let lines =
        version.into_iter().chain(s.warnings.iter().cloned()).chain(ports).chain(refusals).chain(agent);
    lines.map(|line| format!("  ! {line}")).collect::<Vec<_>>().join("\n")
}

/// One line for every reason, however many ports have it: pods mostly share one.
fn reasons(s: &Status) -> String {
    let mut interfaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for port in s.ports.iter().filter(|p| !p.why.is_empty()) {
        interfaces.entry(&port.why).or_default().push(&port.interface);
    }
    let line = |(why, interfaces): (&str, Vec<&str>)| format!("  {}: {why}", interfaces.join(", "));
    interfaces.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Host ports and limits of the pods that have some.
fn promises(s: &Status) -> String {
    let mut lines = Vec::new();
    for port in &s.ports {
        let mut parts = Vec::new();
        if !port.host_ports.is_empty() {
            parts.push(format!("host ports {}", port.host_ports.join(", ")));
        }
        let limits = [("receives", port.bandwidth.ingress), ("sends", port.bandwidth.egress)];
        for (verb, rate) in limits.into_iter().filter(|(_, rate)| *rate > 0) {
            parts.push(format!("{verb} at most {} bit/s", count(rate)));
        }
        if !parts.is_empty() {
            lines.push(format!("  {}: {}", port.label, parts.join("; ")));
        }
    }
    lines.join("\n")
}

struct Tables {
    width: Option<u16>,
}

impl Tables {
    fn ports(&self, s: &Status) -> String {
        let header = ["port", "interface", "for", "addresses", "mtu", "mode", "received", "sent", "lost"];
        let rows = s.ports.iter().map(|p| {
            let (id, used_by) = match p.id {
                0 => ("-".to_owned(), p.role.clone()),
                id => (id.to_string(), p.label.clone()),
            };
            let c = &p.counters;
            vec![
                id,
                p.interface.clone(),
                used_by,
                p.addresses.join(", "),
                p.mtu.to_string(),
                mode(p),
                format!("{} ({})", count(c.rx_frames), bytes(c.rx_bytes)),
                format!("{} ({})", count(c.tx_frames), bytes(c.tx_bytes)),
                count(lost(p)),
            ]
        });
        self.draw(header, rows)
    }

    fn workers(&self, s: &Status) -> String {
        let header = [
            "worker",
            "core",
            "load",
            "frames",
            "per burst",
            "sleeps",
            "flow hits",
            "misses",
            "segmented",
            "merged",
        ];
        let rows = s.workers.iter().map(|w| {
            let core = if w.pinned { w.core.to_string() } else { "any".into() };
            vec![
                w.id.to_string(),
                core,
                format!("{} %", (100 * w.busy_ns).checked_div(w.alive_ns).unwrap_or_default()),
                count(w.frames),
                w.frames.checked_div(w.bursts).unwrap_or_default().to_string(),
                count(w.sleeps),
                count(w.flow_hits),
                count(w.flow_misses),
                count(w.segments_out),
                count(w.segments_in),
            ]
        });
        self.draw(header, rows)
    }

    /// Sums over the workers, most frequent first.
    fn drops(&self, s: &Status) -> String {
        let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for drop in s.workers.iter().flat_map(|w| &w.drops) {
            *sums.entry((&drop.reason, &drop.meaning)).or_default() += drop.count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rows = sums
            .into_iter()
            .map(|((reason, meaning), n)| vec![reason.into(), count(n), places(s, reason), meaning.into()]);
        self.draw(["reason", "frames", "at", "meaning"], rows)
    }

    fn frames(&self, s: &Status) -> String {
        let header =
            ["worker", "area", "total", "free", "fill", "transmit", "in hand", "quarantined", "missing"];
        let ledgers = s.workers.iter().flat_map(|w| w.frames_ledger.iter().map(move |l| (w.id, l)));
        let rows = ledgers.map(|(worker, l)| {
            let there = l.free + l.fill + l.tx + l.in_hand + l.quarantined;
            let missing = i128::from(l.total) - i128::from(there);
            let numbers = [l.total, l.free, l.fill, l.tx, l.in_hand, l.quarantined].map(|n| n.to_string());
            let mut row = vec![worker.to_string(), l.area.clone()];
            row.extend(numbers);
            row.push(missing.to_string());
            row
        });
        self.draw(header, rows)
    }

    fn peers(&self, s: &Status) -> String {
        let carried = |traffic: Option<Traffic>, of: fn(Traffic) -> (u64, u64)| match traffic.map(of) {
            Some((frames, all)) => format!("{} ({})", count(frames), bytes(all)),
            None => "-".into(),
        };
        let rows = s.peers.iter().map(|p| {
            vec![
                p.name.clone(),
                p.address.clone(),
                p.path.clone(),
                p.neighbor.clone(),
                carried(p.traffic, |t| (t.rx_frames, t.rx_bytes)),
                carried(p.traffic, |t| (t.tx_frames, t.tx_bytes)),
            ]
        });
        self.draw(["peer", "address", "path", "neighbor", "received", "sent"], rows)
    }

    fn flows(&self, s: &Status) -> String {
        let f = &s.flows;
        if f.capacity == 0 {
            return String::new();
        }
        let row = [f.live, f.capacity, f.inserted, f.expired, f.evicted, f.taken_over].map(count);
        let header = ["live", "of", "inserted", "expired", "evicted", "taken over", "file"];
        self.draw(header, [row.into_iter().chain([f.path.clone()]).collect()])
    }

    fn shortcut(&self, s: &Status) -> String {
        let c = &s.shortcut;
        if matches!(c.state.as_str(), "" | "off") {
            return String::new();
        }
        let row = vec![c.state.clone(), count(c.ways), count(c.frames), bytes(c.bytes), count(c.lost)];
        self.draw(["state", "directions of flows", "frames", "bytes", "lost"], [row])
    }

    /// Empty when there are no rows.
    fn draw<const N: usize>(&self, header: [&str; N], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.map(str::to_uppercase));
        match self.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.add_rows(rows);
        if table.is_empty() { String::new() } else { table.trim_fmt() }
    }
}

/// Frames of a port that were not carried on: lost in the kernel, or dropped with a reason.
fn lost(p: &Port) -> u64 {
    let c = &p.counters;
    c.rx_ring_full + c.fill_ring_empty + c.tx_invalid + p.drops.iter().map(|drop| drop.count).sum::<u64>()
}

/// Where frames were dropped for a reason: the ports with most of them.
fn places(s: &Status, reason: &str) -> String {
    let at = |p: &Port| p.drops.iter().find(|drop| drop.reason == reason).map_or(0, |drop| drop.count);
    let mut places: Vec<_> = s.ports.iter().map(|p| (at(p), name(p))).filter(|(n, _)| *n > 0).collect();
    places.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let more = places.len().saturating_sub(PLACES);
    let told: Vec<String> =
        places.into_iter().take(PLACES).map(|(n, name)| format!("{name} {}", count(n))).collect();
    if more > 0 { format!("{}, {more} more", told.join(", ")) } else { told.join(", ") }
}

/// What people call a port: its pod, or its role.
fn name(p: &Port) -> &str {
    [&p.label, if p.id == 0 { &p.role } else { &p.interface }]
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or("", String::as_str)
}

/// "generic, copy, frags, superframes, 2 queues".
fn mode(p: &Port) -> String {
    if !p.ready {
        return "not ready".into();
    }
    let flags = [(p.frags, "frags"), (p.superframes, "superframes"), (p.tx_metadata, "tx metadata")];
    let words = [p.driver.as_str(), p.xdp_mode.as_str(), p.copy_mode.as_str()];
    let words = words.into_iter().chain(flags.into_iter().filter(|f| f.0).map(|f| f.1));
    let mut text: Vec<String> = words.filter(|w| !w.is_empty()).map(str::to_owned).collect();
    text.push(plural(p.queues.into(), "queue"));
    text.join(", ")
}

fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// With a thin group sign, as numbers of ten digits are hard to read.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn bytes(n: u64) -> String {
    let scaled = |unit: u64, name: &dyn Display| format!("{}.{} {name}", n / unit, n % unit * 10 / unit);
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => scaled(1_000, &"kB"),
        1_000_000..1_000_000_000 => scaled(1_000_000, &"MB"),
        1_000_000_000..1_000_000_000_000 => scaled(1_000_000_000, &"GB"),
        _ => scaled(1_000_000_000_000, &"TB"),
    }
}
