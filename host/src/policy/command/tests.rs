//! What the judge says, by rules written as a person writes them.

mod corpus;
mod shells;

use camino::Utf8Path;

use super::*;
use crate::config::Overrides;
use crate::fault::code;

fn config(text: &str) -> Config {
    Config::parse(text, Some(Utf8Path::new("/etc/falconer/falconer.toml")), &Overrides::at_home("/home/u"))
        .map_err(|errors| errors.to_string())
        .unwrap()
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The verdict on a list, on the first target of this name.
fn list(config: &Config, target: &str, args: &[&str]) -> Result<Allowed, Refused> {
    judged(config, target, Command::List(&words(args)), None, &[])
}

fn judged(config: &Config, target: &str, command: Command<'_>, cwd: Option<&str>, env: &[(&str, &str)]) -> Result<Allowed, Refused> {
    let target = config.targets.iter().find(|known| known.name == target);
    let env: Vec<(String, String)> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Rules::of(config).judge(&Asked { backend: "ssh", target, command, cwd, env: &env })
}

const TARGETS: &str = "
[[targets]]
name = 'web-1.example.org'
tags = ['web', 'eu']
limits = { wall = '5m', parallel = 2 }
[[targets]]
name = 'db-1'
tags = ['db', 'production']
[tags.web]
limits = { wall = '20m', output = '1 MiB', parallel = 10 }
";

#[test]
fn nothing_is_allowed_without_a_rule() {
    let none = list(&config(TARGETS), "db-1", &["uptime"]).unwrap_err();
    assert_eq!(*none.reason, Reason::NoRule { allowing: 0 });
    assert_eq!(none.message, "no rule allows anything on target `db-1` for backend `ssh`");
    assert_eq!(none.hint, "a person could add to the configuration, under [[rules]]: targets = [\"db-1\"], allow = [[\"uptime\"]]");
    assert_eq!(none.fault().code, code::NOT_ALLOWED);
}

#[test]
fn a_rule_is_about_its_backends_targets_and_tags() {
    let text = |keys: &str| config(&format!("{TARGETS}[[rules]]\n{keys}\nallow = [['uptime']]\n"));
    for (keys, web, db) in [
        ("targets = ['*']", true, true),
        ("targets = ['web-*']", true, false),
        ("targets = ['*.example.org', 'x']", true, false),
        ("targets = ['re:db-[0-9]']", false, true),
        ("tags = ['web']", true, false),
        ("tags = ['web', 'db']", true, true),
        ("targets = ['*']\ntags = ['db']", false, true),
        ("targets = ['web-*']\ntags = ['db']", false, false),
        ("targets = ['*']\nbackends = ['ssh', 'other']", true, true),
        ("targets = ['*']\nbackends = ['other']", false, false),
    ] {
        let config = text(keys);
        assert_eq!(list(&config, "web-1.example.org", &["uptime"]).is_ok(), web, "{keys}");
        assert_eq!(list(&config, "db-1", &["uptime"]).is_ok(), db, "{keys}");
    }
    let here = config("[[rules]]\ntargets = ['*']\nallow = [['uptime']]");
    assert!(list(&here, "no target at all", &["uptime"]).is_ok());
}

#[test]
fn the_first_rule_that_allows_counts_and_gives_its_limits() {
    let config = config(&format!(
        "{TARGETS}[[rules]]\nname = 'logs'\ntags = ['web']\nallow = [\n  ['uptime'],\n  ['tail', '/var/log/*'],\n]\nwall = '10m'\nparallel = 4\n\n[[rules]]\ntargets = ['*']\nallow = [['uptime']]\noutput = '64 KiB'\n"
    ));
    let allowed = list(&config, "web-1.example.org", &["tail", "/var/log/syslog"]).unwrap();
    assert_eq!(allowed.rule.to_string(), "rule `logs` (falconer.toml:16)");
    assert_eq!(allowed.command.args().unwrap(), ["tail", "/var/log/syslog"]);
    assert_eq!(allowed.command.script(), b"exec 'tail' '/var/log/syslog'");
    assert_eq!(
        allowed.limits,
        Ceilings {
            wall: Some((Share::Target("web-1.example.org".into()), Duration::from_secs(300))),
            output: Some((Share::Tag("web".into()), 1 << 20)),
            parallel: vec![(Share::Rule(1), 4), (Share::Target("web-1.example.org".into()), 2), (Share::Tag("web".into()), 10)],
        },
        "the least of rule, target and tags"
    );
    let other = list(&config, "db-1", &["uptime"]).unwrap();
    assert_eq!(other.rule.to_string(), "rule 2 (falconer.toml:23)");
    assert_eq!(other.limits, Ceilings { output: Some((Share::Rule(2), 64 << 10)), ..Ceilings::default() });
}

#[test]
fn a_denial_beats_what_allows_in_whatever_form() {
    let config = config(&format!(
        "{TARGETS}[[rules]]\ntargets = ['*']\nallow = [['cat', '...'], ['rm', '...'], ['/bin/rm', '...'], ['/usr/bin/rm', '...'], ['uptime']]\n[[rules]]\nname = 'never'\ndeny = [['rm', '-rf', '...'], ['cat', '... *shadow*'], ['cat', '-A', '/etc/passwd']]\n[[rules]]\nname = 'frozen'\ntags = ['production']\ndeny = true\n"
    ));
    let on_web = |args: &[&str]| list(&config, "web-1.example.org", args);
    for args in [
        &["rm", "-rf", "x"][..],
        &["rm", "-rf"],
        &["/bin/rm", "-rf", "/"],
        &["/usr/bin/rm", "-rf", "/"],
        &["cat", "/etc/shadow"],
        &["cat", "/etc//shadow", "shadow-"],
        &["cat", "-A", "/etc/./passwd"],
        &["cat", "-A", "/etc/x/../passwd"],
        &["cat", "-A", "//etc/passwd/"],
    ] {
        let refused = on_web(args).unwrap_err();
        assert!(matches!(&*refused.reason, Reason::Denied(rule) if rule.name.as_deref() == Some("never")), "{args:?}: {refused}");
    }
    assert!(on_web(&["cat", "a", "x-shadow", "b"]).is_err(), "one of them is enough");
    assert!(on_web(&["rm", "-r", "x"]).is_ok() && on_web(&["cat", "/etc/passwd", "-A"]).is_ok());
    let frozen = list(&config, "db-1", &["uptime"]).unwrap_err();
    assert_eq!(frozen.message, "rule `frozen` (falconer.toml:17) denies `uptime` on target `db-1`");
    assert_eq!(frozen.reason.rule().unwrap().index, 3);
}

#[test]
fn a_program_is_a_bare_name_or_an_absolute_path_and_neither_is_the_other() {
    let config = config(&format!("{TARGETS}[[rules]]\ntargets = ['*']\nallow = [['uptime'], ['/usr/bin/id'], ['/opt/tools/*']]\n"));
    for args in ["uptime", "/usr/bin/id", "/opt/tools/x"] {
        assert!(list(&config, "db-1", &[args]).is_ok(), "{args}");
    }
    for args in ["/usr/bin/uptime", "/tmp/uptime", "id", "/opt/tools/x/y"] {
        assert!(!matches!(*list(&config, "db-1", &[args]).unwrap_err().reason, Reason::Malformed(_)), "{args}");
    }
    for args in [
        "",
        "./uptime",
        "../uptime",
        "bin/uptime",
        "~/uptime",
        "-uptime",
        "/opt/tools/../x",
        "//usr/bin/id",
        "/usr/bin/id/",
        ".",
        "uptime\n",
        "uptime -p",
        "/usr/./bin/id",
    ] {
        let refused = list(&config, "db-1", &[args]).unwrap_err();
        assert!(matches!(*refused.reason, Reason::Malformed(_)), "{args:?}: {refused}");
        assert_eq!(refused.fault().code, code::INVALID_ARGUMENT);
    }
    assert!(list(&config, "db-1", &[]).is_err() && list(&config, "db-1", &["uptime", "a\0"]).is_err());
}

#[test]
fn the_nearest_rule_says_what_does_not_fit() {
    let config = config(&format!(
        "{TARGETS}[[rules]]\nname = 'logs'\ntargets = ['*']\nallow = [['tail', '-n', 're:[0-9]{{1,4}}', '/var/log/**'], ['uptime']]\ncwd = ['/srv/**']\nenv = ['LANG', 'APP_*']\n"
    ));
    for (args, message) in [
        (
            &["tail", "-n", "5", "/var/log/../../etc/shadow"][..],
            "argument 3 of `tail`, `/var/log/../../etc/shadow`, holds `..` as a part of a path",
        ),
        (&["tail", "-n", "5", "/var/log//x"], "argument 3 of `tail`, `/var/log//x`, holds `//` in a path"),
        (&["tail", "-n", "5", "/etc/shadow"], "argument 3 of `tail`, `/etc/shadow`, fits no pattern"),
        (&["tail", "-n", "5\n6", "x"], "argument 2 of `tail`, `5\u{fffd}6`, fits no pattern"),
        (&["tail", "-n", "5"], "`tail` needs more than 2 arguments"),
        (&["uptime", "-p"], "`uptime` may have 0 arguments"),
    ] {
        let refused = list(&config, "db-1", args).unwrap_err();
        assert_eq!(
            refused.message,
            format!("no rule allows this on target `db-1`; the nearest is rule `logs` (falconer.toml:14): {message}")
        );
        assert!(!refused.message.contains(char::is_control));
    }
    let other = list(&config, "db-1", &["id", "a*b", "re:x"]).unwrap_err();
    assert_eq!(other.message, "no rule allows `id` on target `db-1`");
    assert_eq!(
        other.hint,
        r#"a person could add to the configuration, under [[rules]]: targets = ["db-1"], allow = [["id", "a\\*b", "\\re:x"]]"#
    );
    let uptime = words(&["uptime"]);
    let asked = |cwd, env: &[(&str, &str)]| judged(&config, "db-1", Command::List(&uptime), cwd, env);
    let allowed = asked(Some("/srv/app"), &[("LANG", "C"), ("APP_X", "a\nb")]).unwrap();
    assert_eq!((allowed.command.cwd(), allowed.command.env().len()), (Some("/srv/app"), 2));
    assert!(asked(Some("/etc"), &[]).unwrap_err().message.ends_with("but not in the directory `/etc`"));
    for cwd in ["srv", "/srv/../etc", "/srv//x", ""] {
        assert!(matches!(*asked(Some(cwd), &[]).unwrap_err().reason, Reason::Malformed(_)), "{cwd}");
    }
    assert!(asked(None, &[("LC_ALL", "C")]).unwrap_err().message.ends_with("but not with `LC_ALL` in the environment"));
    for name in ["FALCONER_RUN_ID", "A B", "1A", "A=B", "", "BASH_FUNC_x%%"] {
        assert!(matches!(*asked(None, &[(name, "x")]).unwrap_err().reason, Reason::Malformed(_)), "{name}");
    }
    assert!(matches!(*asked(None, &[("LANG", "C"), ("LANG", "D")]).unwrap_err().reason, Reason::Malformed(_)));
}

#[test]
fn no_wildcard_lets_a_variable_pass_that_changes_what_runs() {
    let text = |env: &str| config(&format!("[[rules]]\ntargets = ['*']\nallow = [['uptime']]\nenv = [{env}]\n"));
    let uptime = words(&["uptime"]);
    let passes = |config: &Config, name: &str| judged(config, "", Command::List(&uptime), None, &[(name, "x")]).is_ok();
    let all = text("'**', 're:.*', 'LD_*'");
    assert!(passes(&all, "LANG") && passes(&all, "APP"));
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "ENV", "IFS", "PYTHONPATH", "NODE_OPTIONS", "GIT_SSH_COMMAND", "PERL5OPT", "LESSOPEN"] {
        assert!(!passes(&all, name), "{name}");
        assert!(passes(&text(&format!("'{name}'")), name), "{name}");
    }
}

#[test]
fn a_line_needs_a_rule_for_lines_and_fits_as_a_whole() {
    let line = |config: &Config, line: &str| judged(config, "db-1", Command::Shell(line), None, &[]);
    let lists = config(&format!("{TARGETS}[[rules]]\ntargets = ['*']\nallow = [['uptime'], ['sh', '...']]\n"));
    let refused = line(&lists, "uptime").unwrap_err();
    assert_eq!(*refused.reason, Reason::NoShell);
    assert_eq!(refused.message, "no rule allows a shell line on target `db-1`");
    let shell = config(&format!(
        "{TARGETS}[[rules]]\nname = 'lines'\ntargets = ['*']\nshell = true\nallow = ['uptime', 'systemctl status *', 're:ps aux \\| grep [a-z]+', 're:(?s)printf .*']\n"
    ));
    let ok = line(&shell, "ps aux | grep nginx").unwrap();
    assert_eq!((ok.command.script(), ok.command.args()), (b"ps aux | grep nginx".to_vec(), None));
    assert!(line(&shell, "systemctl status nginx").is_ok());
    assert!(list(&shell, "db-1", &["uptime"]).is_err(), "a rule for lines allows no list");
    for bad in ["uptime ", " uptime", "uptime;id", "uptime\nid", "ps aux | grep a; id", "systemctl status nginx;id", "systemctl status a b"]
    {
        assert!(line(&shell, bad).is_err(), "{bad:?}");
    }
    let both = config(&format!(
        "{TARGETS}[[rules]]\ntargets = ['*']\nallow = [['uptime']]\n[[rules]]\nname = 'lines'\ntargets = ['*']\nshell = true\nallow = ['uptime']\n"
    ));
    let injected = line(&both, "uptime; rm -rf /").unwrap_err();
    assert!(matches!(*injected.reason, Reason::OtherLine { .. }) && injected.message.contains("rule `lines`"), "{injected}");
    assert!(!injected.hint.contains("rm -rf"), "what was injected is not proposed: {}", injected.hint);
    let tab = line(&shell, "printf a\tb").unwrap_err();
    assert!(matches!(*tab.reason, Reason::ControlCharacter { .. }) && tab.hint.contains("control_characters = true"));
    let unplain = line(&shell, "printf ../x").unwrap_err();
    assert!(matches!(*unplain.reason, Reason::UnplainLine { .. }), "{unplain}");
    let free = config(
        "[[rules]]\ntargets = ['*']\nshell = true\ncontrol_characters = true\nallow = ['re:(?s)printf .*']\n[[rules]]\nshell = true\ndeny = ['*reboot*']\n",
    );
    let passes = |text: &str| judged(&free, "", Command::Shell(text), None, &[]).is_ok();
    assert!(passes("printf a\nid") && !passes("printf a\nreboot"));
    assert!(!passes("") && !passes(" \n"), "an empty line is none");
}
