//! The pool against a naive oracle, and the files as `host-local` has them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn owner(id: &impl ToString, ifname: &str) -> Owner {
    Owner { container_id: id.to_string(), ifname: ifname.to_owned() }
}

fn range(cidr: &str) -> Range {
    Range::of(cidr.parse().unwrap()).unwrap()
}

fn all_of(cidr: &str) -> Choice {
    Choice::any(range(cidr))
}

fn exactly(address: &str) -> Choice {
    Choice { exact: Some(address.parse().unwrap()), ..all_of("10.244.1.0/24") }
}

fn pool() -> (TempDir, Pool) {
    let dir = TempDir::new().unwrap();
    let pool = Pool::new(dir.path(), "headrace");
    (dir, pool)
}

/// host-local's rules, written as a list walked from the front.
struct Oracle {
    taken: BTreeMap<Ipv4Addr, Owner>,
    candidates: Vec<Ipv4Addr>,
}

impl Oracle {
    fn allocate(&mut self, owner: &Owner) -> Option<Ipv4Addr> {
        if self.taken.values().any(|o| o == owner) {
            return None;
        }
        let place = self.candidates.iter().position(|a| !self.taken.contains_key(a))?;
        self.candidates.rotate_left(place + 1);
        let address = *self.candidates.last().unwrap();
        self.taken.insert(address, owner.clone());
        Some(address)
    }

    fn release(&mut self, owner: &Owner) {
        self.taken.retain(|_, o| o != owner);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn gives_the_addresses_that_a_naive_list_gives(
        steps in prop::collection::vec((any::<bool>(), 0u8..12, 0u8..2), 1..60)
    ) {
        let (_dir, pool) = pool();
        let mut oracle = Oracle {
            taken: BTreeMap::new(),
            candidates: (2..15).map(|n| Ipv4Addr::new(10, 9, 8, n)).collect(),
        };
        for (add, id, ifname) in steps {
            let owner = owner(&id, ["eth0", "net1"][usize::from(ifname)]);
            if add {
                prop_assert_eq!(pool.allocate(&all_of("10.9.8.0/28"), &owner).ok(), oracle.allocate(&owner));
            } else {
                pool.release(&owner).unwrap();
                oracle.release(&owner);
            }
            let held = oracle.taken.iter().find(|(_, o)| **o == owner).map(|(a, _)| *a);
            prop_assert_eq!(pool.find(&owner).unwrap(), held);
            prop_assert_eq!(pool.has_free(&all_of("10.9.8.0/28")).unwrap(), oracle.taken.len() < 13);
        }
    }
}

#[test]
fn the_files_are_those_of_host_local() {
    let (dir, pool) = pool();
    let address = pool.allocate(&all_of("10.244.1.0/24"), &owner(&"abc", "eth0")).unwrap();
    assert_eq!(address, Ipv4Addr::new(10, 244, 1, 2));
    let file = |name: &str| std::fs::read_to_string(dir.path().join("headrace").join(name)).unwrap();
    assert_eq!(file("10.244.1.2"), "abc\r\neth0");
    assert_eq!(file("last_reserved_ip.0"), "10.244.1.2");
    let mut names: Vec<_> =
        fs::read_dir(dir.path().join("headrace")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["10.244.1.2", "last_reserved_ip.0", "lock"]);
}

#[test]
fn a_second_request_of_one_owner_is_refused_in_the_words_of_host_local() {
    let (_dir, pool) = pool();
    pool.allocate(&all_of("10.244.1.0/24"), &owner(&"abc", "eth0")).unwrap();
    let error = pool.allocate(&all_of("10.244.1.0/24"), &owner(&"abc", "eth0")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "10.244.1.2 has been allocated to abc, duplicate allocation is not allowed"
    );
    pool.allocate(&all_of("10.244.1.0/24"), &owner(&"abc", "net1")).unwrap();
}

#[test]
fn a_full_pool_says_so_and_a_freed_address_is_given_again() {
    let (_dir, pool) = pool();
    for n in 0..5 {
        pool.allocate(&all_of("10.244.1.0/29"), &owner(&n, "eth0")).unwrap();
    }
    let error = pool.allocate(&all_of("10.244.1.0/29"), &owner(&9, "eth0")).unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }));
    assert!(error.to_string().contains("10.244.1.2-10.244.1.6"), "{error}");
    pool.release(&owner(&3, "eth0")).unwrap();
    let address = pool.allocate(&all_of("10.244.1.0/29"), &owner(&9, "eth0")).unwrap();
    assert_eq!(address, Ipv4Addr::new(10, 244, 1, 5));
}

#[test]
fn only_ranges_with_room_for_a_pod_are_taken() {
    assert_eq!(range("10.0.0.0/30"), Range { first: [10, 0, 0, 2].into(), last: [10, 0, 0, 2].into() });
    assert_eq!(range("10.0.0.77/24"), Range { first: [10, 0, 0, 2].into(), last: [10, 0, 0, 254].into() });
    assert!(Range::of("10.0.0.0/31".parse().unwrap()).is_err());
    assert!(Range::of("10.0.0.0/32".parse().unwrap()).is_err());
    assert_eq!(range("0.0.0.0/0").last, Ipv4Addr::new(255, 255, 255, 254));
}

#[test]
fn leftovers_of_a_crash_do_no_harm() {
    let (dir, pool) = pool();
    let dir = dir.path().join("headrace");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("10.244.1.2"), "").unwrap();
    fs::write(dir.join("10.244.1.3"), "old-style-id\n").unwrap();
    fs::write(dir.join(HALF_MADE), "abc\r\neth0").unwrap();
    fs::write(dir.join(LAST_RESERVED), "nonsense").unwrap();
    assert_eq!(pool.find(&owner(&"abc", "eth0")).unwrap(), None);
    assert_eq!(
        pool.allocate(&all_of("10.244.1.0/24"), &owner(&"abc", "eth0")).unwrap(),
        Ipv4Addr::new(10, 244, 1, 2)
    );
    assert_eq!(pool.find(&owner(&"old-style-id", "eth0")).unwrap(), Some(Ipv4Addr::new(10, 244, 1, 3)));
    pool.release(&owner(&"old-style-id", "eth0")).unwrap();
    assert_eq!(pool.find(&owner(&"old-style-id", "eth0")).unwrap(), None);
}

#[test]
fn many_at_once_get_different_addresses() {
    let (_dir, pool) = pool();
    let mut addresses: Vec<_> = std::thread::scope(|scope| {
        let ask = |n| pool.allocate(&all_of("10.244.1.0/24"), &owner(&n, "eth0")).unwrap();
        let threads: Vec<_> = (0..16).map(|n| scope.spawn(move || ask(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 16);
}

#[test]
fn collection_keeps_the_valid_ones_alone() {
    let (_dir, pool) = pool();
    let owners: Vec<_> = (0..4).map(|n| owner(&n, "eth0")).collect();
    for owner in &owners {
        pool.allocate(&all_of("10.244.1.0/24"), owner).unwrap();
    }
    pool.retain(&owners[1..3].iter().cloned().collect()).unwrap();
    let left: Vec<_> = owners.iter().map(|o| pool.find(o).unwrap().is_some()).collect();
    assert_eq!(left, [false, true, true, false]);
}

#[test]
fn an_address_may_be_asked_for() {
    let (_dir, pool) = pool();
    let wanted = exactly("10.244.1.77");
    assert_eq!(pool.allocate(&wanted, &owner(&"a", "eth0")).unwrap(), Ipv4Addr::new(10, 244, 1, 77));
    let taken = pool.allocate(&wanted, &owner(&"b", "eth0")).unwrap_err().to_string();
    assert_eq!(taken, "requested address 10.244.1.77 is not available: it has been allocated to a");
    for outside in ["10.244.2.7", "10.244.1.0", "10.244.1.1", "10.244.1.255"] {
        let error = pool.allocate(&exactly(outside), &owner(&"b", "eth0")).unwrap_err();
        assert!(matches!(error, IpamError::NotInRange { .. }), "{outside}: {error}");
    }
}

#[test]
fn several_ranges_are_gone_through_in_turn() {
    let (_dir, pool) = pool();
    let part = |first: u8, last: u8| {
        range("10.244.1.0/24").narrow([10, 244, 1, first].into(), [10, 244, 1, last].into()).unwrap()
    };
    let taken = BTreeSet::from([[10, 244, 1, 6].into()]);
    let choice = Choice { ranges: vec![part(0, 3), part(5, 7)], exact: None, taken };
    let given: Vec<_> =
        (0..4).map(|n| pool.allocate(&choice, &owner(&n, "eth0")).unwrap().octets()[3]).collect();
    assert_eq!(given, [2, 3, 5, 7]);
    let error = pool.allocate(&choice, &owner(&9, "eth0")).unwrap_err().to_string();
    assert!(error.contains("10.244.1.2-10.244.1.3, 10.244.1.5-10.244.1.7"), "{error}");
    pool.release(&owner(&1, "eth0")).unwrap();
    assert_eq!(pool.allocate(&choice, &owner(&9, "eth0")).unwrap().octets()[3], 3);
    pool.release(&owner(&0, "eth0")).unwrap();
    pool.release(&owner(&3, "eth0")).unwrap();
    assert_eq!(
        pool.allocate(&choice, &owner(&10, "eth0")).unwrap().octets()[3],
        7,
        "it goes on after the last one"
    );
    assert_eq!(range("10.244.1.0/24").narrow([10, 244, 2, 0].into(), [10, 244, 2, 9].into()), None);
}
