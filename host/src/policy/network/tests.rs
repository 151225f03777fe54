//! Which addresses pass.

use super::*;
use crate::config::Overrides;

pub(super) fn rule(network: &str) -> NetworkRule {
    let text = format!("[network]\n{network}\n");
    NetworkRule::of(&Config::parse(&text, None, &Overrides::at_home("/home/u")).map_err(|errors| errors.to_string()).unwrap())
}

fn judge(network: &str, address: &str, origin: Origin) -> Result<Passes, Blocks> {
    rule(network).judge(address.parse().unwrap(), origin).map_err(|blocked| blocked.by)
}

#[test]
fn without_a_word_every_address_passes_but_the_built_in_ranges() {
    for free in [
        "203.0.113.7",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "8.8.8.8",
        "2001:db8::1",
        "fd12::1",
        "2606:4700::1",
        "64:ff9b::808:808",
    ] {
        assert_eq!(judge("", free, Origin::LookedUp), Ok(Passes::Free), "{free}");
        assert!(judge("", free, Origin::Written).is_ok(), "{free}");
    }
    for (blocked, what) in [
        ("127.0.0.1", "this machine itself"),
        ("127.255.255.254", "this machine itself"),
        ("0.0.0.0", "this network"),
        ("0.1.2.3", "this network"),
        ("169.254.169.254", "a cloud's metadata service"),
        ("169.254.1.1", "link-local"),
        ("100.100.100.200", "a cloud's metadata service"),
        ("168.63.129.16", "a cloud's metadata service"),
        ("192.0.0.192", "set aside for protocols"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "this network"),
        ("::1", "this machine itself"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local, out of use"),
        ("ff02::1", "multicast"),
        ("fd00:ec2::254", "a cloud's metadata service"),
        ("2001::1", "Teredo"),
        ("64:ff9b:1::7f00:1", "IPv4 behind a translator of this place"),
        // IPv4 in IPv6.
        ("::ffff:127.0.0.1", "this machine itself"),
        ("::ffff:169.254.169.254", "a cloud's metadata service"),
        ("::127.0.0.1", "this machine itself"),
        ("64:ff9b::7f00:1", "this machine itself"),
        ("64:ff9b::a9fe:a9fe", "a cloud's metadata service"),
        ("2002:7f00:1::1", "this machine itself"),
        ("2002:a9fe:a9fe::", "a cloud's metadata service"),
        ("2001:db8::5efe:7f00:1", "this machine itself"),
    ] {
        assert!(matches!(judge("", blocked, Origin::LookedUp), Err(Blocks::BuiltIn(_, found)) if found == what), "{blocked}");
    }
    assert_eq!(judge("", "127.0.0.1", Origin::Written), Ok(Passes::Written), "a person wrote it");
    assert!(judge("", "2002:7f00:1::1", Origin::Written).is_err(), "nobody writes that and means it");
}

#[test]
fn what_is_blocked_is_blocked_however_it_is_written() {
    let network = "block = ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7']";
    for blocked in ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1", "2001:db8:ffff::1", "192.0.2.7"]
    {
        for origin in [Origin::Written, Origin::LookedUp] {
            assert!(matches!(judge(network, blocked, origin), Err(Blocks::Range(_))), "{blocked}");
        }
    }
    for free in ["9.255.255.255", "11.0.0.0", "2001:db9::1", "192.0.2.8"] {
        assert!(judge(network, free, Origin::LookedUp).is_ok(), "{free}");
    }
    assert!(judge("block = ['::ffff:10.0.0.0/104']", "10.1.2.3", Origin::Written).is_err(), "the range is one of IPv4");
    assert!(judge("block = ['0.0.0.0/0']", "::ffff:8.8.8.8", Origin::Written).is_err());
}

#[test]
fn where_something_is_allowed_nothing_else_is() {
    let network = "allow = ['10.0.0.0/8', '10.1.0.0/16', '2001:db8::/32']\nblock = ['10.9.0.0/16']";
    assert_eq!(judge(network, "10.1.2.3", Origin::LookedUp), Ok(Passes::Allowed("10.1.0.0/16".parse().unwrap())), "the narrowest is named");
    assert_eq!(judge(network, "203.0.113.7", Origin::Written), Err(Blocks::NotListed));
    assert_eq!(judge(network, "10.9.0.1", Origin::Written), Err(Blocks::Range("10.9.0.0/16".parse().unwrap())));
    assert_eq!(judge("allow = []", "203.0.113.7", Origin::Written), Err(Blocks::NotListed), "an empty list is none at all");
    // Only an entry that means it opens a built-in range.
    let all = "allow = ['0.0.0.0/0', '::/0']";
    assert!(judge(all, "203.0.113.7", Origin::LookedUp).is_ok());
    for shut in ["127.0.0.1", "169.254.169.254", "::1", "64:ff9b::7f00:1"] {
        assert!(matches!(judge(all, shut, Origin::LookedUp), Err(Blocks::BuiltIn(..))), "{shut}");
    }
    let open = "allow = ['127.0.0.0/8', '169.254.0.0/16']";
    assert!(judge(open, "127.0.0.5", Origin::LookedUp).is_ok() && judge(open, "169.254.7.7", Origin::LookedUp).is_ok());
    assert!(judge(open, "169.254.169.254", Origin::LookedUp).is_err(), "wider than the range of the metadata service");
}

#[test]
fn a_name_behind_a_jump_is_judged_by_name() {
    assert!(rule("").judge_name("db.internal").is_ok());
    let some = rule("jump_names = ['*.Internal', 're:\\Dx']");
    assert!(some.judge_name("db.INTERNAL").is_ok());
    let fault = some.judge_name("db.example.org").unwrap_err();
    assert_eq!(fault.code, code::ADDRESS_NOT_ALLOWED);
    assert!(rule("jump_names = []").judge_name("x").is_err());
}

#[test]
fn the_rule_is_said() {
    let said = |network, address: &str, origin| {
        rule(network).judge(address.parse().unwrap(), origin).map(|passes| passes.to_string()).map_err(|blocked| blocked.to_string())
    };
    assert_eq!(said("", "10.0.0.1", Origin::LookedUp).unwrap(), "nothing blocks it");
    assert_eq!(said("allow = ['10.0.0.1']", "10.0.0.1", Origin::LookedUp).unwrap(), "network.allow: 10.0.0.1/32");
    assert_eq!(said("", "::1", Origin::LookedUp).unwrap_err(), "::1 is refused by the built-in list: ::1/128, this machine itself");
    assert_eq!(
        said("allow = []", "10.0.0.1", Origin::LookedUp).unwrap_err(),
        "10.0.0.1 is refused by network.allow, which does not name it"
    );
}
