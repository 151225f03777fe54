//! Targets, tags, networks and rules.

use super::*;

#[test]
fn every_key_of_a_target_is_read() {
    let config = parse(
        "[[targets]]
name = 'web-1.example.org'
address = '[2001:db8::7]'
port = 2222
user = 'deploy'
tags = ['web', 'eu']
description = 'the first'
identity = '~/.ssh/a'
jump = 'Bastion_2'
fingerprint = ['SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE']
limits = { wall = '1m', output = '1 MiB', parallel = 3 }
[[targets]]
name = 'Bastion_2'
ssh_alias = 'b'
known_hosts = 'known'
[[targets]]
name = '192.0.2.1'
identity = ['a', '/b']
",
    )
    .unwrap();
    let [one, bastion, digits] = &config.targets[..] else { panic!("{:?}", config.targets) };
    assert_eq!((one.name.as_str(), one.line, one.port), ("web-1.example.org", 1, Some(2222)));
    assert_eq!(one.address, Some(Address::Ip("2001:db8::7".parse().unwrap())));
    assert_eq!(
        (one.user.as_deref(), one.jump.as_deref(), one.description.as_deref()),
        (Some("deploy"), Some("Bastion_2"), Some("the first"))
    );
    assert_eq!((one.tags.as_slice(), one.identity.as_slice()), (&["web".to_owned(), "eu".to_owned()][..], &["/home/u/.ssh/a".into()][..]));
    assert!(matches!(&one.host_key, Some(HostKey::Pinned(keys)) if keys[0].as_str().starts_with("SHA256:mVPw")));
    let limits = FarLimits { wall: Some(Duration::from_secs(60)), output: Some(1 << 20), parallel: Some(3) };
    assert_eq!(one.limits, limits);
    assert_eq!((bastion.line, bastion.address.as_ref(), bastion.ssh_alias.as_deref()), (12, None, Some("b")));
    assert_eq!(bastion.host_key, Some(HostKey::KnownHosts("/etc/falconer/known".into())));
    assert_eq!(digits.address, Some(Address::Ip("192.0.2.1".parse().unwrap())), "the name is the address where nothing else is said");
    assert_eq!(digits.identity, [Utf8PathBuf::from("/etc/falconer/a"), "/b".into()]);
}

#[test]
fn a_tag_says_what_a_target_does_not() {
    let config = parse(
        "[[targets]]\nname = 'a'\ntags = ['web', 'eu']\nport = 1\n[[targets]]\nname = 'jump'\ntags = ['web']\n[tags.web]\nuser = 'w'\nport = 2\njump = 'jump'\nlimits = { parallel = 4 }\n[tags.eu]\nport = 3\nknown_hosts = '~/eu'\n",
    )
    .unwrap();
    let [a, jump] = &config.targets[..] else { panic!() };
    assert_eq!((a.port, a.user.as_deref(), a.jump.as_deref()), (Some(1), Some("w"), Some("jump")));
    assert_eq!(a.host_key, Some(HostKey::KnownHosts("/home/u/eu".into())));
    assert_eq!((a.limits, config.tags["web"].limits.parallel), (FarLimits::default(), Some(4)), "limits stay apart");
    assert_eq!((jump.port, jump.jump.as_ref()), (Some(2), None), "a jump host does not jump over itself");
}

#[test]
fn secrets_are_named_and_never_written() {
    let config = parse(
        "[[targets]]\nname = 'a'\ntags = ['t']\npassword = 'root-pw'\n[[targets]]\nname = 'b'\ntags = ['t']\n[tags.t]\npassword = 'tag-pw'\npassphrase = 'keys'\n",
    )
    .unwrap();
    let named: Vec<_> = config.targets.iter().map(|target| (target.password.as_deref(), target.passphrase.as_deref())).collect();
    assert_eq!(named, [(Some("root-pw"), Some("keys")), (Some("tag-pw"), Some("keys"))]);
    for text in ["[[targets]]\nname = 'a'\npassword = 'Tr0ub4dor & 3'", "[tags.t]\npassphrase = 'Tr0ub4dor & 3'"] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(!shown.contains("Tr0ub4dor") && shown.contains("backends.ssh.grants.secrets"), "{shown}");
    }
}

#[test]
fn addresses_are_read_in_every_form() {
    for (text, shown) in [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%br-0.1]", "fe80::1%br-0.1"),
        ("Web-1.Example.ORG", "web-1.example.org"),
        ("web_1", "web_1"),
        ("example.org.", "example.org"),
    ] {
        assert_eq!(Address::parse(text).map(|address| address.to_string()), Ok(shown.to_owned()), "{text}");
    }
    for text in [
        "",
        "-x",
        "a b",
        "a;b",
        "a_.-b",
        "a..b",
        "host:22",
        "[::1",
        "[host]",
        "[1.2.3.4]",
        "::1%lo",
        "fe80::1%",
        "fe80::1%-x",
        "fe80::1%a/b",
        "x%y",
        "user@host",
        "$(id)",
        "a\n",
        "é.org",
        "ssh://x",
    ] {
        assert!(Address::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(Address::parse("host:22").unwrap_err().1, "write `address = \"host\"` and `port = 22`");
}

#[test]
fn every_key_of_a_rule_is_read() {
    let config = parse(
        "# first
[[rules]]
name = 'logs'
backends = ['ssh']
targets = ['web-*']
tags = ['web']
allow = [
    ['uptime'],
    ['tail', '-n', 're:[0-9]+', '/var/log/**', '...'],
    ['ls', '... /srv/*'],
]
cwd = ['/srv/**']
env = ['APP_*']
wall = '1m'
output = '64 KiB'
parallel = 2
[[rules]]
shell = true
control_characters = true
targets = ['*']
allow = ['uptime']
[[rules]]
deny = [['rm', '...']]
[[rules]]
deny = true
",
    )
    .unwrap();
    let [logs, shell, deny, all] = &config.rules[..] else { panic!() };
    assert_eq!((logs.name.as_deref(), logs.line, logs.backends.as_slice()), (Some("logs"), 2, &["ssh".to_owned()][..]));
    let Effect::Allow { commands: Commands::Lists(lists), cwd, env, limits } = &logs.effect else { panic!() };
    assert_eq!(lists.iter().map(|list| list.line).collect::<Vec<_>>(), [8, 9, 10]);
    assert_eq!((lists[1].program.text(), lists[1].args.len(), &lists[1].rest), ("tail", 3, &Rest::Any));
    assert!(matches!(&lists[2].rest, Rest::Each(pattern) if pattern.text() == "/srv/*"));
    assert_eq!((cwd.len(), env.len(), limits.parallel), (1, 1, Some(2)));
    assert!(
        matches!(&shell.effect, Effect::Allow { commands: Commands::Shell { lines, control_characters: true }, .. } if lines.len() == 1)
    );
    assert!(matches!(deny.effect, Effect::Deny(Commands::Lists(_))) && all.effect == Effect::DenyAll);
    let moved = parse("[[rules]]\ndeny = true\n").unwrap();
    assert_eq!(moved.digest, parse("# a\n\n[[rules]]\ndeny = true\n").unwrap().digest, "a line is no part of the meaning");
    assert_ne!(moved.digest, parse("[[rules]]\ndeny = true\ntags = ['x']\n").unwrap().digest);
}

#[test]
fn duplicates_are_shown_with_both_lines() {
    assert_eq!(
        errors("[[targets]]\nname = 'web.1'\n[[targets]]\nname = 'WEB.1'\n"),
        "error: falconer.toml:4:8: target `WEB.1` is there already, on line 1
  |
4 | name = 'WEB.1'
  |        ^^^^^^^
  hint: give it another name, or take one of the two out"
    );
    assert!(
        errors("[[rules]]\nname = 'a'\ndeny = true\n[[rules]]\nname = 'a'\ndeny = true")
            .contains("5:8: rule `a` is there already, on line 1")
    );
    let both = "[[targets]]\nname = 'x'\ntags = ['a', 'b']\n[tags.a]\nuser = 'p'\n[tags.b]\nuser = 'q'\n";
    assert_eq!(
        errors(both),
        "error: falconer.toml:1:1: tags `a` (line 4) and `b` (line 6) say different things about `user`
  |
1 | [[targets]]
  | ^^^^^^^^^^^
  hint: write `user` into this target, or into one of the tags alone"
    );
}

#[test]
fn each_mistake_is_one_error_with_a_place_and_a_hint() {
    let target = |keys: &str| format!("[[targets]]\nname = 'a'\n{keys}");
    let rule = |keys: &str| format!("[[rules]]\ntargets = ['*']\n{keys}");
    for (text, message) in [
        ("[targets.web]\naddress = 'x'".to_owned(), "`targets` must be a list of tables, not a table"),
        ("targets = ['web']".to_owned(), "`targets` must be a list of tables, not a string"),
        ("[[targets]]\naddress = 'x'".to_owned(), "a target has no `name`"),
        ("[[targets]]\nname = 'a b'".to_owned(), "`a b` is no name of a target"),
        ("[[targets]]\nname = '-a'".to_owned(), "`-a` is no name of a target"),
        ("[[targets]]\nname = 'a+b'".to_owned(), "target `a+b` has no address"),
        (target("address = 'x:22'"), "`x:22` is an address and a port"),
        (target("address = 'a b'"), "`a b` is no address of a machine"),
        (target("address = '::1%lo'"), "`::1` is not link-local, and has no zone"),
        (target("port = 0"), "`targets.port` is out of range"),
        (target("port = 65536"), "`targets.port` is out of range"),
        (target("port = '22'"), "must be a whole number, not a string"),
        (target("user = '-oProxyCommand=x'"), "is no login that is taken"),
        (target("user = 'a;b'"), "is no login that is taken"),
        (target("user = '$(id)'"), "is no login that is taken"),
        (target("tags = ['a b']"), "`a b` is no name of a tag"),
        (target("tags = ['a', 'a']"), "tag `a` is named twice"),
        (target("description = \"a\\u0007\""), "`description` is longer than 500 characters, or holds a control character"),
        (target("identity = 3"), "must be a list of strings, not a number"),
        (target("jump = 'b'"), "target `a` jumps over `b`, which is no target"),
        (target("jump = 'a'"), "the way to target `a` goes in a circle: a over a"),
        (target("fingerprint = 'MD5:aa:bb'"), "`MD5:aa:bb` is no fingerprint of a host key"),
        (target("fingerprint = 'SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXF'"), "is no fingerprint of a host key"),
        (target("fingerprint = []"), "`fingerprint` is an empty list"),
        (
            target("known_hosts = 'a'\nfingerprint = 'SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE'"),
            "both `known_hosts` and `fingerprint` are given",
        ),
        (target("limits = { walls = '1m' }"), "unknown key `walls` in [targets.limits]"),
        (target("limits = { parallel = 0 }"), "`targets.limits.parallel` is out of range"),
        (target("wall = '1m'"), "unknown key `wall` in [targets]"),
        (target("password = 'x y'"), "`password` is no name of a secret; the value itself has no place in this file"),
        ("[tags.a]\npassphrase = 'correct horse'".to_owned(), "`passphrase` is no name of a secret"),
        (target("ssh_alias = 'a*'"), "`a*` is no alias that is taken"),
        ("[tags.'a b']\nuser = 'x'".to_owned(), "`a b` is no name of a tag"),
        ("[tags.a]\naddress = 'x'".to_owned(), "unknown key `address` in [tags.a]"),
        ("tags = { a = 3 }".to_owned(), "`tags.a` must be a table, not a number"),
        ("[network]\nallow = ['10.0.0.0/33']".to_owned(), "`10.0.0.0/33` is no address and no range"),
        ("[network]\nblock = ['example.org']".to_owned(), "`example.org` is no address and no range"),
        ("[network]\nblock = ['10.0.0.1/8']".to_owned(), "`10.0.0.1/8` names an address within a range"),
        ("[network]\nallow_cidrs = []".to_owned(), "unknown key `allow_cidrs` in [network]"),
        ("[network]\njump_names = ['re:[']".to_owned(), "`re:[` holds a bad regular expression"),
        ("[[rules]]\nallow = [['uptime']]".to_owned(), "a rule that allows must say where"),
        ("[[rules]]\ntags = []\ntargets = ['*']\ndeny = true".to_owned(), "`tags` is an empty list"),
        (rule(""), "a rule has neither `allow` nor `deny`"),
        (rule("allow = [['a']]\ndeny = true"), "a rule has both `allow` and `deny`"),
        (rule("allow = true"), "`allow` must be a list of commands, not a boolean"),
        (rule("deny = false"), "`deny` must be a list of commands, not a boolean"),
        (rule("allow = []"), "`allow` is an empty list"),
        (rule("allow = ['uptime']"), "a command must be a list of arguments, not a string"),
        (rule("allow = [[]]"), "a command is empty"),
        (rule("allow = [['a', 3]]"), "an argument must be a string, not a number"),
        (rule("allow = [['...']]"), "`...` stands in the place of the program"),
        (rule("allow = [['a', '...', 'b']]"), "`...` is not at the end"),
        (rule("allow = [['./a']]"), "`./a` is a relative path"),
        (rule("allow = [['/a/../b']]"), "`/a/../b` is a path that is not in its normal form"),
        (rule("allow = [['systemctl status']]"), "`systemctl status` holds a blank"),
        (rule("allow = [['a', 're:(']]"), "`re:(` holds a bad regular expression"),
        (rule("allow = [['a', '... re:(']]"), "`re:(` holds a bad regular expression"),
        (rule("shell = true\nallow = [['a']]"), "a shell line must be a string, not a list"),
        (rule("shell = true\nallow = ['']"), "a line is empty"),
        (rule("allow = [['a']]\ncontrol_characters = true"), "`control_characters` is about shell lines"),
        (rule("deny = [['a']]\nwall = '1m'"), "a rule that denies has no `wall`"),
        (rule("allow = [['a']]\ncwd = ['srv']"), "`cwd` holds `srv`, which is not absolute"),
        (rule("allow = [['a']]\nenv = ['A=b']"), "`A=b` is no name of an environment variable"),
        (rule("allow = [['a']]\nenv = ['FALCONER_X']"), "`FALCONER_X` is set by the host alone"),
        (rule("allow = [['a']]\ncommand = 'x'"), "unknown key `command` in [rules]"),
        (rule("allow = [['a']]\nwall = 5"), "`rules.wall` must be a duration such as \"90s\", not a number"),
        (rule("name = ''\nallow = [['a']]"), "`name` is empty, longer than 80 characters, or holds a control character"),
    ] {
        let errors = parse(&text).expect_err(&text);
        assert!(errors.0[0].message.contains(message), "{text}\n{errors}");
        assert!(errors.0.iter().all(|error| error.hint.is_some() && error.place.is_some()), "{text}\n{errors}");
        assert_eq!(errors.0.len(), 1, "{text}\n{errors}");
    }
}

#[test]
fn a_way_has_no_circle_and_an_end() {
    let chain = |last: &str| {
        let mut text = String::new();
        for (name, jump) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")] {
            text.push_str(&format!("[[targets]]\nname = '{name}'\njump = '{jump}'\n"));
        }
        format!("{text}[[targets]]\nname = 'e'\n{last}")
    };
    assert!(parse(&chain("")).is_ok());
    assert!(
        errors(&chain("jump = 'f'\n[[targets]]\nname = 'f'\n"))
            .contains("the way to target `a` is too long: a over b over c over d over e over f")
    );
    assert!(errors(&chain("jump = 'd'")).contains("the way to target `d` goes in a circle: d over e over d"));
}

#[test]
fn every_example_for_operators_is_read() {
    let guide = include_str!("../../../../docs/rules.md");
    let examples: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(example, _)| example)).collect();
    assert!(examples.len() >= 4);
    for example in examples {
        parse(example).map_err(|errors| format!("{example}\n{errors}")).unwrap();
    }
}
