//! What there is, and what an alias adds to it.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::Overrides;
use crate::policy::Severity;

/// An inventory below a home of its own, with this `~/.ssh/config`.
fn inventory(text: &str, ssh_config: &str) -> (tempfile::TempDir, Inventory) {
    let home = tempfile::tempdir().unwrap();
    let dir = Utf8PathBuf::from_path_buf(home.path().to_owned()).unwrap();
    std::fs::create_dir(dir.join(".ssh")).unwrap();
    std::fs::write(dir.join(".ssh/config"), ssh_config).unwrap();
    std::fs::set_permissions(dir.join(".ssh/config"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = Config::parse(text, None, &Overrides::at_home(dir)).map_err(|errors| errors.to_string()).unwrap();
    (home, Inventory::of(&Arc::new(config)))
}

const SOME: &str = "
[[targets]]
name = 'web-1.example.org'
tags = ['web']
[[targets]]
name = 'web-2'
address = '2001:db8::2'
port = 2222
user = 'deploy'
jump = 'bastion'
tags = ['web', 'eu']
[[targets]]
name = 'bastion'
address = '203.0.113.1'
";

#[test]
fn targets_are_found_by_name_and_tag() {
    let (_home, inventory) = inventory(SOME, "");
    assert_eq!(inventory.target("web-1.example.org").unwrap().tags, ["web"]);
    let near = inventory.target("web-3").unwrap_err();
    assert_eq!((near.code.as_ref(), near.message.as_str()), (code::UNKNOWN_TARGET, "no target is called `web-3`"));
    assert_eq!(near.hint.as_deref(), Some("did you mean `web-2`? list_targets shows all"));
    assert_eq!(inventory.target("x\u{1b}").unwrap_err().message, "no target is called `x\u{fffd}`");
    let names = |found: Vec<&Target>| found.into_iter().map(|target| target.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(inventory.tagged("web").unwrap()), ["web-1.example.org", "web-2"]);
    assert_eq!(inventory.tagged("database").unwrap_err().hint.as_deref(), Some("there are: eu, web"));
    let one = inventory.host("web-2").unwrap();
    assert_eq!((one.port, one.user.as_deref(), one.address.to_string().as_str()), (2222, Some("deploy"), "2001:db8::2"));
    let bare = inventory.host("web-1.example.org").unwrap();
    assert_eq!((bare.port, &bare.address), (22, &Address::Name("web-1.example.org".into())));
    let way: Vec<&str> = inventory.way("web-2").unwrap().iter().map(|host| host.target.name.as_str()).collect();
    assert_eq!(way, ["bastion", "web-2"]);
}

#[test]
fn a_request_names_one_or_many_or_none() {
    let (_home, inventory) = inventory(SOME, "");
    let select = |target, targets: Option<&[String]>, tag| inventory.select(&Selection { target, targets, tag });
    assert_eq!(select(None, None, None), Ok(Selected::Nothing));
    assert!(matches!(select(Some("bastion"), None, None), Ok(Selected::One(target)) if target.name == "bastion"));
    assert!(matches!(select(None, None, Some("web")), Ok(Selected::Many(many)) if many.len() == 2));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let many = names(&["web-2", "bastion"]);
    let Ok(Selected::Many(found)) = select(None, Some(&many), None) else { panic!() };
    assert_eq!(found.iter().map(|target| &target.name).collect::<Vec<_>>(), ["web-2", "bastion"], "in the order asked for");
    for (wrong, code) in [
        (select(None, Some(&[]), None), code::INVALID_ARGUMENT),
        (select(None, Some(&names(&["web-2", "web-2"])), None), code::INVALID_ARGUMENT),
        (select(None, Some(&names(&["web-2", "x"])), None), code::UNKNOWN_TARGET),
        (select(None, None, Some("x")), code::UNKNOWN_TARGET),
        (select(Some("web-2"), None, Some("web")), code::CONFLICTING_FIELDS),
    ] {
        assert_eq!(wrong.unwrap_err().code, code);
    }
}

/// Whether the client is here; `tests/fetch` installs it.
fn has_ssh() -> bool {
    let here = std::path::Path::new("/usr/bin/ssh").exists();
    assert!(here || std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "ssh is missing: run tests/fetch");
    here
}

const ALIASES: &str = "
[[targets]]
name = 'one'
ssh_alias = 'one'
[[targets]]
name = 'two'
ssh_alias = 'second'
port = 2022
user = 'me'
identity = '/k'
[[targets]]
name = 'bastion'
address = '203.0.113.1'
[[targets]]
name = 'unsaid'
ssh_alias = 'nowhere'
[[targets]]
name = 'proxied'
ssh_alias = 'proxied'
[[targets]]
name = 'far'
ssh_alias = 'far'
[[targets]]
name = 'token'
ssh_alias = 'token'
";

const SSH_CONFIG: &str = "
Host one
    HostName 192.0.2.10
    Port 2200
    User alice
    IdentityFile ~/.ssh/special
    UserKnownHostsFile ~/.ssh/known_special
    ProxyJump bob@bastion:22
    LocalCommand touch ~/never
    PermitLocalCommand yes
    RemoteCommand id
    LocalForward 9999 localhost:22
    ForwardAgent yes
    StrictHostKeyChecking no
Host second
    HostName two.example.org
    Port 1
    User other
Host proxied
    ProxyCommand nc %h %p
Host far
    ProxyJump elsewhere
Host token
    IdentityFile ~/.ssh/id_%h
";

#[test]
fn an_alias_fills_in_what_is_not_said_and_nothing_else_is_taken() {
    if !has_ssh() {
        return eprintln!("no ssh here: tests/fetch installs it");
    }
    let (home, inventory) = inventory(ALIASES, SSH_CONFIG);
    let home = Utf8PathBuf::from_path_buf(home.path().to_owned()).unwrap();
    let one = inventory.host("one").unwrap();
    assert_eq!(one.address.to_string(), "192.0.2.10");
    assert_eq!((one.port, one.user.as_deref(), one.jump.as_deref()), (2200, Some("alice"), Some("bastion")));
    assert_eq!(one.identity, [home.join(".ssh/special")]);
    assert!(matches!(&one.host_key, Some(HostKey::KnownHosts(file)) if file.ends_with(".ssh/known_special")));
    let two = inventory.host("two").unwrap();
    assert_eq!((two.address.to_string().as_str(), two.port, two.user.as_deref()), ("two.example.org", 2022, Some("me")));
    assert_eq!((two.identity.as_slice(), &two.host_key), (&["/k".into()][..], &None), "what ssh does by itself is not taken for a word");
    for (name, message) in [
        ("unsaid", "says nothing about `nowhere`"),
        ("proxied", "it is reached by a ProxyCommand"),
        ("far", "its alias jumps over `elsewhere`, which is no target"),
        ("token", "holds a token"),
    ] {
        let fault = inventory.host(name).unwrap_err();
        assert_eq!(fault.code, code::TARGET_UNAVAILABLE);
        assert!(fault.message.contains(message) && fault.hint.is_some(), "{fault}");
    }
    assert_eq!(inventory.targets().len(), 7, "all are listed");
    let errors = inventory.report().into_iter().filter(|finding| finding.severity == Severity::Error);
    let subjects: Vec<String> = errors.map(|finding| finding.subject).collect();
    for name in ["unsaid", "proxied", "far", "token"] {
        assert!(subjects.contains(&format!("target {name}")), "{subjects:?}");
    }
}

#[test]
fn without_the_file_or_the_client_the_reason_is_said() {
    let home = tempfile::tempdir().unwrap();
    let dir = Utf8PathBuf::from_path_buf(home.path().to_owned()).unwrap();
    let of = |text: &str| Inventory::of(&Arc::new(Config::parse(text, None, &Overrides::at_home(dir.clone())).unwrap()));
    let alias = "[[targets]]\nname = 'a'\nssh_alias = 'a'\n";
    assert!(of(alias).host("a").unwrap_err().message.ends_with(".ssh/config is not there"));
    std::fs::create_dir(dir.join(".ssh")).unwrap();
    std::fs::write(dir.join(".ssh/config"), "").unwrap();
    let none = of(&format!("path = ['/nowhere']\n{alias}"));
    assert!(none.host("a").unwrap_err().message.contains("`ssh` is in none of /nowhere"));
    // A program that does not end is not waited for without end; here, one that fails at once.
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let written = std::process::Command::new("/bin/sh")
        .args(["-c", "printf '#!/bin/sh\\necho broken >&2\\nexit 3\\n' >\"$0/ssh\" && chmod 755 \"$0/ssh\"", bin.as_str()])
        .status()
        .unwrap();
    assert!(written.success());
    assert!(of(&format!("path = ['~/bin']\n{alias}")).host("a").unwrap_err().message.ends_with("`ssh -G a`: broken"));
}

#[test]
fn check_says_what_is_missing_and_what_is_wider_than_it_looks() {
    let (home, inventory) = inventory(
        &format!(
            "{SOME}identity = '~/.ssh/key'\nknown_hosts = '~/.ssh/none'\n[tags.unused]\nuser = 'x'\n[network]\nallow = ['2001:db8::/32']\n
[[rules]]\nname = 'wide'\ntargets = ['*']\nallow = [['find', '...'], ['*', '...'], ['df', '...']]\nenv = ['LD_PRELOAD']\n
[[rules]]\nname = 'lines'\ntags = ['web']\nshell = true\nallow = ['re:uptime.*']\nwall = '1m'\n
[[rules]]\nname = 'nowhere'\ntargets = ['nowhere-*']\nallow = [['uptime']]\n
[[rules]]\nname = 'frozen'\ntags = ['eu']\ndeny = true\n"
        ),
        "",
    );
    let key = home.path().join(".ssh/key");
    std::fs::write(&key, "x").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said: Vec<String> = inventory
        .report()
        .into_iter()
        .chain(inventory.report_rules())
        .map(|finding| format!("{:?} {}: {}", finding.severity, finding.subject, finding.message))
        .collect();
    let home = home.path().to_str().unwrap();
    for line in [
        "Good target web-2: deploy@[2001:db8::2]:2222; tags web, eu; over bastion; host key as falconer knows it".to_owned(),
        format!("Error target bastion: identity {home}/.ssh/key can be read by others (mode 0644)"),
        format!("Error target bastion: known_hosts {home}/.ssh/none is not there, so no host key can be checked"),
        "Error target bastion: 203.0.113.1 is refused by network.allow, which does not name it".to_owned(),
        "Warning tag unused: no target has it (line 17)".to_owned(),
        "Good rule lines: line 28: allows 1 shell line (wall 1m); tags web".to_owned(),
        "Good rule frozen: line 40: denies everything; tags eu".to_owned(),
        "Warning rule wide: line 25: `find` executes or writes what its arguments say, and they are free".to_owned(),
        "Warning rule wide: line 25: any program of the far end may be started".to_owned(),
        "Warning rule wide: a run may set `LD_PRELOAD`, which changes what programs execute".to_owned(),
        "Warning rule lines: `re:uptime.*` takes what a shell sees: `;`, `|`, `$( )` and the like".to_owned(),
        "Warning rule nowhere: it is about no target that there is".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}\n{said:#?}");
    }
    assert!(!said.iter().any(|line| line.contains("`df`")));
}
