//! Every verb in every version, and everything that may be wrong, against the real plugin and the real agent.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use headrace_lab::cni::{CniCall, Refused};
use headrace_lab::daemon::Daemon;
use headrace_lab::machine::Machine;
use headrace_lab::{Lab, LabConfig, counters};
use serde_json::{Value, json};

use crate::findings::Findings;
use crate::support;

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A node without pods.
fn node() -> Result<Option<(Lab, Machine)>> {
    let config = LabConfig { nodes: 1, pods_per_node: 0, ..LabConfig::default() };
    let Some(lab) = support::lab(config)? else { return Ok(None) };
    let machine = lab.node("node1")?.machine.clone();
    Ok(Some((lab, machine)))
}

fn call(machine: &Machine, verb: &str, name: &str) -> Result<CniCall> {
    Ok(CniCall::new(machine, verb, name)?)
}

/// The call succeeds.
fn succeed(machine: &Machine, call: &CniCall) -> Result<Value> {
    match call.run(machine)? {
        Ok(printed) => Ok(printed),
        Err(error) => bail!("refused: {error:?}"),
    }
}

/// The call is refused with this code, and says these words.
fn refuse(machine: &Machine, call: &CniCall, code: u32, words: &str) -> Result<()> {
    match call.run(machine)? {
        Ok(printed) => bail!("accepted: {printed}"),
        Err(Refused { code: given, msg, details }) => {
            ensure!(given == code, "code {given} instead of {code}: {msg} {details}");
            ensure!(format!("{msg} {details}").contains(words), "no {words:?} in {msg:?} {details:?}");
            Ok(())
        }
    }
}

/// Files of addresses in use.
fn reserved(machine: &Machine) -> BTreeSet<String> {
    let folder = machine.directory.join("run/ipam/headrace");
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.parse::<std::net::Ipv4Addr>().is_ok()).collect()
}

#[test]
fn every_verb_does_in_every_version_what_the_specification_says() -> Result<()> {
    let Some((lab, machine)) = node()? else { return Ok(()) };
    let mut findings = Findings::default();
    for version in VERSIONS {
        findings.check(version, life(&machine, version));
    }
    findings.finish(lab)
}

/// One pod from ADD to DEL.
fn life(machine: &Machine, version: &str) -> Result<()> {
    let pod = format!("pod-{}", version.replace('.', "-"));
    machine.add_namespace(&pod)?;
    let before = counters::links(&machine.space)?;
    let verb =
        |verb: &str| Ok::<_, anyhow::Error>(call(machine, verb, &pod)?.key("cniVersion", version.into()));
    let result = succeed(machine, &verb("ADD")?)?;
    check_shape(&result, version)?;
    ensure!(reserved(machine).len() == 1, "{:?}", reserved(machine));
    refuse(machine, &verb("ADD")?, 101, "duplicate allocation is not allowed")?;

    let check = verb("CHECK")?.key("prevResult", result.clone());
    let status = verb("STATUS")?;
    let attachment = json!([{"containerID": pod, "ifname": "eth0"}]);
    let collect = verb("GC")?.key("cni.dev/valid-attachments", attachment);
    match version {
        "0.4.0" | "1.0.0" | "1.1.0" => ensure!(succeed(machine, &check)?.is_null(), "CHECK prints nothing"),
        _ => refuse(machine, &check, 1, "CHECK needs cniVersion 0.4.0")?,
    }
    match version {
        "1.1.0" => {
            succeed(machine, &status)?;
            succeed(machine, &collect)?;
            succeed(machine, &check)?;
        }
        _ => {
            refuse(machine, &status, 1, "STATUS needs cniVersion 1.1.0")?;
            refuse(machine, &collect, 1, "GC needs cniVersion 1.1.0")?;
        }
    }
    let delete = verb("DEL")?.key("prevResult", result);
    ensure!(succeed(machine, &delete)?.is_null(), "DEL prints nothing");
    succeed(machine, &delete)?;
    succeed(machine, &verb("DEL")?.variable("CNI_NETNS", ""))?;
    machine.delete_namespace(&pod)?;
    succeed(machine, &delete)?;
    ensure!(reserved(machine).is_empty(), "addresses stay: {:?}", reserved(machine));
    ensure!(counters::links(&machine.space)? == before, "links stay");
    Ok(())
}

fn check_shape(result: &Value, version: &str) -> Result<()> {
    ensure!(result["cniVersion"] == version, "{result}");
    let address = match version {
        "0.1.0" | "0.2.0" => &result["ip4"]["ip"],
        _ => &result["ips"][0]["address"],
    };
    ensure!(address.as_str().is_some_and(|a| a.starts_with("10.244.1.") && a.ends_with("/32")), "{result}");
    let has = |pointer: &str| result.pointer(pointer).is_some();
    let of_lists = version >= "0.3.0";
    ensure!(has("/ips") == of_lists && has("/interfaces") == of_lists && has("/ip4") != of_lists, "{result}");
    ensure!(has("/ips/0/version") == (of_lists && version < "1.0.0"), "{result}");
    ensure!(has("/interfaces/1/mtu") == (version >= "1.1.0"), "{result}");
    ensure!(!of_lists || result["interfaces"][1]["name"] == "eth0", "{result}");
    Ok(())
}

/// What is wrong with a call, by its name; how it is made wrong; the code and a word of the answer.
type Fault = (&'static str, &'static str, fn(CniCall) -> CniCall, u32, &'static str);

#[test]
fn what_is_wrong_is_refused_with_its_code_and_leaves_nothing() -> Result<()> {
    let Some((lab, machine)) = node()? else { return Ok(()) };
    machine.add_namespace("wrong")?;
    let before = counters::links(&machine.space)?;
    let without = |mut call: CniCall, name: &str| {
        call.variables.retain(|n, _| *n != name);
        call
    };
    let mut findings = Findings::default();
    for (verb, name) in [
        ("ADD", "CNI_CONTAINERID"),
        ("ADD", "CNI_NETNS"),
        ("ADD", "CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID"),
        ("DEL", "CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID"),
        ("CHECK", "CNI_NETNS"),
        ("CHECK", "CNI_IFNAME"),
        ("GC", "CNI_PATH"),
    ] {
        let words = format!("required env variables [{name}] missing");
        let missing = without(call(&machine, verb, "wrong")?.key("cniVersion", "1.1.0".into()), name);
        findings.check(format!("{verb} without {name}"), refuse(&machine, &missing, 4, &words));
        let empty = call(&machine, verb, "wrong")?.key("cniVersion", "1.1.0".into());
        let empty = CniCall {
            variables: empty
                .variables
                .into_iter()
                .map(|(n, v)| (n, if n == name { String::new() } else { v }))
                .collect(),
            ..empty
        };
        findings.check(format!("{verb} with empty {name}"), refuse(&machine, &empty, 4, &words));
    }
    for (what, verb, make_wrong, code, words) in faults() {
        let wrong = make_wrong(call(&machine, verb, "wrong")?);
        findings.check(format!("{verb}: {what}"), refuse(&machine, &wrong, code, words));
    }
    findings.equal("addresses", &reserved(&machine), &BTreeSet::new());
    findings.equal("links", &counters::links(&machine.space)?, &before);
    findings.finish(lab)
}

fn faults() -> Vec<Fault> {
    vec![
        ("unknown verb", "FLY", |c| c, 4, "unknown CNI_COMMAND: FLY"),
        ("container id", "ADD", |c| c.variable("CNI_CONTAINERID", "../x"), 4, "../x"),
        (
            "interface name of 16 bytes",
            "ADD",
            |c| c.variable("CNI_IFNAME", "sixteen-bytes-it"),
            4,
            "15 bytes",
        ),
        ("interface name with a slash", "ADD", |c| c.variable("CNI_IFNAME", "a/b"), 4, "a/b"),
        ("interface name ..", "DEL", |c| c.variable("CNI_IFNAME", ".."), 4, ".."),
        ("arguments", "ADD", |c| c.variable("CNI_ARGS", "nonsense"), 4, "nonsense"),
        ("MAC in arguments", "ADD", |c| c.variable("CNI_ARGS", "MAC=1"), 4, "MAC in CNI_ARGS"),
        ("no namespace there", "ADD", |c| c.variable("CNI_NETNS", "/run/netns/none"), 8, "/run/netns/none"),
        ("no namespace at all", "ADD", |c| c.variable("CNI_NETNS", "/etc/hostname"), 8, "not a namespace"),
        (
            "the node's own namespace",
            "ADD",
            |c| c.variable("CNI_NETNS", "/proc/self/ns/net"),
            8,
            "should not be the same",
        ),
        (
            "another kind of namespace",
            "ADD",
            |c| c.variable("CNI_NETNS", "/proc/self/ns/uts"),
            8,
            "want a network namespace",
        ),
        ("configuration is a list", "ADD", |c| CniCall { config: json!([]), ..c }, 6, "decode"),
        ("configuration is a text", "DEL", |c| CniCall { config: json!("x"), ..c }, 6, "decode"),
        ("no name", "ADD", |c| c.key("name", json!("")), 7, "missing network name"),
        ("bad name", "DEL", |c| c.key("name", json!("a b")), 7, "network name"),
        ("unknown version", "ADD", |c| c.key("cniVersion", json!("1.2.0")), 1, "this plugin speaks 0.1.0"),
        ("unknown version", "DEL", |c| c.key("cniVersion", json!("0.0.1")), 1, "incompatible CNI versions"),
        ("relative runDir", "ADD", |c| c.key("runDir", json!("run")), 7, "runDir"),
        ("agent elsewhere", "ADD", |c| c.key("runDir", json!("/run/nowhere")), 11, "headrace-agent is away"),
        (
            "agent elsewhere",
            "STATUS",
            |c| c.key("runDir", json!("/run/nowhere")).key("cniVersion", json!("1.1.0")),
            50,
            "away",
        ),
        ("no prevResult", "CHECK", |c| c, 7, "prevResult"),
        ("bad prevResult", "CHECK", |c| c.key("prevResult", json!({"ips": 1})), 6, "prevResult"),
        ("bad prevResult", "ADD", |c| c.key("prevResult", json!("x")), 6, "prevResult"),
        ("never added", "CHECK", |c| c.key("prevResult", json!({"ips": []})), 100, "not attached"),
        (
            "no valid attachments",
            "GC",
            |c| c.key("cniVersion", json!("1.1.0")),
            7,
            "cni.dev/valid-attachments",
        ),
        (
            "bad valid attachments",
            "GC",
            |c| c.key("cniVersion", json!("1.1.0")).key("cni.dev/valid-attachments", json!([1])),
            6,
            "cni.dev/valid-attachments",
        ),
        (
            "IPAM plugin not there",
            "ADD",
            |c| c.key("ipam", json!({"type": "none"})),
            7,
            "failed to find plugin \"none\"",
        ),
        (
            "host port",
            "ADD",
            |c| c.key("runtimeConfig", json!({"portMappings": [{"hostPort": 70_000}]})),
            7,
            "70000",
        ),
        ("bandwidth", "ADD", |c| c.key("runtimeConfig", json!({"bandwidth": {"IngressRate": -1}})), 7, "-1"),
        (
            "mac",
            "ADD",
            |c| c.key("runtimeConfig", json!({"mac": "01:00:00:00:00:00"})),
            7,
            "runtimeConfig.mac",
        ),
        (
            "address of another node",
            "ADD",
            |c| c.key("runtimeConfig", json!({"ips": ["10.244.9.9"]})),
            7,
            "10.244.9.9",
        ),
        ("superframes", "ADD", |c| c.key("superframes", json!("maybe")), 7, "superframes"),
    ]
}

#[test]
fn plugins_before_and_behind_are_passed_through() -> Result<()> {
    let Some((lab, machine)) = node()? else { return Ok(()) };
    let space = machine.add_namespace("chained")?;
    space.run("ip link add net1 type veth peer name other")?;
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/chained"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    });
    let mut findings = Findings::default();
    let added = call(&machine, "ADD", "chained")?.key("prevResult", previous);
    let result = findings.check("ADD", succeed(&machine, &added)).unwrap_or_default();
    findings.equal(
        "the first address",
        &result["ips"][0],
        &json!({"address": "192.0.2.7/24", "interface": 0}),
    );
    findings.equal("the second address's interface", &result["interfaces"][2]["name"], &json!("eth0"));
    findings.equal("index", &result["ips"][1]["interface"], &json!(2));
    findings.equal("dns", &result["dns"]["nameservers"][0], &json!("192.0.2.53"));
    // A plugin behind ours adds a route and an address; what ours made is as it was.
    let mut last = result.clone();
    if let Some(ips) = last["ips"].as_array_mut() {
        ips.push(json!({"address": "198.51.100.1/32"}));
    }
    space.run("ip route add 203.0.113.0/24 via 169.254.1.1 dev eth0")?;
    let check = call(&machine, "CHECK", "chained")?.key("prevResult", last.clone());
    findings.check("CHECK", succeed(&machine, &check));
    findings.check("DEL", succeed(&machine, &call(&machine, "DEL", "chained")?.key("prevResult", last)));
    findings.equal("addresses", &reserved(&machine), &BTreeSet::new());
    findings.finish(lab)
}

#[test]
fn fifty_pods_at_once_all_get_an_address_of_their_own() -> Result<()> {
    let Some((lab, machine)) = node()? else { return Ok(()) };
    let names: Vec<_> = (0..50).map(|n| format!("many{n}")).collect();
    names.iter().try_for_each(|name| machine.add_namespace(name).map(drop))?;
    let mut findings = Findings::default();
    let results = all_at_once(&machine, "ADD", &names);
    let addresses: BTreeSet<_> = names
        .iter()
        .zip(results)
        .filter_map(|(name, result)| findings.check(name, result))
        .map(|result| result["ips"][0]["address"].to_string())
        .collect();
    findings.equal("different addresses", &addresses.len(), &50);
    findings.equal("addresses", &reserved(&machine).len(), &50);
    for (name, result) in names.iter().zip(all_at_once(&machine, "DEL", &names)) {
        findings.check(name, result);
    }
    findings.equal("addresses", &reserved(&machine), &BTreeSet::new());
    findings.finish(lab)
}

#[test]
fn of_calls_for_one_pod_at_once_one_attaches_it() -> Result<()> {
    let Some((lab, machine)) = node()? else { return Ok(()) };
    machine.add_namespace("one")?;
    let mut findings = Findings::default();
    let names = vec!["one".to_owned(); 8];
    let (added, refused): (Vec<_>, Vec<_>) =
        all_at_once(&machine, "ADD", &names).into_iter().partition(Result::is_ok);
    findings.equal("attached", &added.len(), &1);
    for error in refused.into_iter().filter_map(Result::err) {
        findings.equal(&error, &error.to_string().contains("duplicate allocation"), &true);
    }
    if let Some(Ok(result)) = added.into_iter().next() {
        let check = call(&machine, "CHECK", "one")?.key("prevResult", result);
        findings.check("CHECK", succeed(&machine, &check));
    }
    findings.equal("addresses", &reserved(&machine).len(), &1);
    for result in all_at_once(&machine, "DEL", &names) {
        findings.check("DEL", result);
    }
    findings.finish(lab)
}

#[test]
fn an_agent_killed_at_any_moment_loses_no_address_and_gives_none_twice() -> Result<()> {
    let Some((mut lab, machine)) = node()? else { return Ok(()) };
    let names: Vec<_> = (0..12).map(|n| format!("kill{n}")).collect();
    names.iter().try_for_each(|name| machine.add_namespace(name).map(drop))?;
    let mut findings = Findings::default();
    for round in 0..12_u64 {
        // The first ADD of twelve is done after some milliseconds, the last one after some hundred.
        let pause = Duration::from_millis(5 + round * 17);
        let results = std::thread::scope(|scope| {
            let adding = scope.spawn(|| all_at_once(&machine, "ADD", &names));
            std::thread::sleep(pause);
            lab.kill("node1", Daemon::Agent)?;
            let results = adding.join().unwrap_or_default();
            lab.start("node1", Daemon::Agent)?;
            anyhow::Ok(results)
        })?;
        let added: Vec<_> =
            names.iter().zip(&results).filter_map(|(n, r)| Some((n, r.as_ref().ok()?))).collect();
        let addresses: BTreeSet<_> = added.iter().map(|(_, r)| r["ips"][0]["address"].to_string()).collect();
        findings.equal(format!("round {round}: different addresses"), &addresses.len(), &added.len());
        for (name, result) in &added {
            let check = call(&machine, "CHECK", name)?.key("prevResult", (*result).clone());
            findings.check(format!("round {round}: CHECK {name}"), succeed(&machine, &check));
        }
        for (name, result) in names.iter().zip(all_at_once(&machine, "DEL", &names)) {
            findings.check(format!("round {round}: DEL {name}"), result);
        }
        findings.equal(format!("round {round}: addresses"), &reserved(&machine), &BTreeSet::new());
    }
    findings.finish(lab)
}

fn all_at_once(machine: &Machine, verb: &str, names: &[String]) -> Vec<Result<Value>> {
    std::thread::scope(|scope| {
        let one = |name: &String| succeed(machine, &call(machine, verb, name)?);
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || one(name))).collect();
        let outcome = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(outcome).collect()
    })
}
