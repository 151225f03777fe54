//! What a wrong file is told.

use super::*;

#[test]
fn an_unknown_key_is_shown_with_its_line_and_what_was_meant() {
    assert_eq!(
        errors("[backends.exec.grants]\n\nworkspace = [\"~/src\"]\n"),
        "error: falconer.toml:3:1: unknown key `workspace` in [backends.exec.grants]
  |
3 | workspace = [\"~/src\"]
  | ^^^^^^^^^
  hint: did you mean `workspaces`?"
    );
    assert_eq!(
        errors("colour = 1\n"),
        "error: falconer.toml:1:1: unknown key `colour` at the top of the file
  |
1 | colour = 1
  | ^^^^^^
  hint: known here: data_dir, plugins_dir, path, client, stop, host, profiles, backends, network, tags, targets, rules"
    );
    assert_eq!(
        errors("[backends.exec]\nprograms = { sh = 'sh' }\nwall = '2h'\n"),
        "error: falconer.toml:2:1: unknown key `programs` in [backends.exec]
  |
2 | programs = { sh = 'sh' }
  | ^^^^^^^^
  hint: `programs` belongs in [backends.exec.grants]

error: falconer.toml:3:1: unknown key `wall` in [backends.exec]
  |
3 | wall = '2h'
  | ^^^^
  hint: `wall` belongs in [backends.exec.limits]"
    );
    assert!(errors("[exec]\nenabled = true").ends_with("hint: write `[backends.exec]`"));
}

#[test]
fn a_wrong_value_is_shown_with_its_line_and_what_to_write() {
    assert_eq!(
        errors("[backends.exec.limits]\nwall = 7200\nmemory = \"64\"\nruns = 0\nidle = \"90d\"\n"),
        "error: falconer.toml:2:8: `backends.exec.limits.wall` must be a duration such as \"90s\", not a number
  |
2 | wall = 7200
  |        ^^^^
  hint: write something from \"1s\" to \"30d\"

error: falconer.toml:3:10: `backends.exec.limits.memory`: `64` has no unit
  |
3 | memory = \"64\"
  |          ^^^^
  hint: write a whole number and a unit (B, KiB, MiB, GiB), as in \"64 MiB\"

error: falconer.toml:4:8: `backends.exec.limits.runs` is out of range
  |
4 | runs = 0
  |        ^
  hint: write a number from 1 to 100000, without quotes

error: falconer.toml:5:8: `backends.exec.limits.idle` is out of range
  |
5 | idle = \"90d\"
  |        ^^^^^
  hint: write something from \"1s\" to \"30d\""
    );
}

#[test]
fn a_text_that_is_no_toml_is_shown_where_it_breaks() {
    let shown = errors("[host]\nruns = \n");
    assert!(shown.starts_with("error: falconer.toml:2:"), "{shown}");
    assert!(shown.contains("not TOML: "), "{shown}");
    assert!(errors("a = 1\na = 2\n").starts_with("error: falconer.toml:2:1: not TOML: duplicate key"), "{}", errors("a = 1\na = 2\n"));
}

#[test]
fn each_bad_value_is_one_error_with_a_hint() {
    for (text, message) in [
        ("client = 3", "`client` must be a table, not a number"),
        ("[client]\ncwd_is_workspace = 'yes'", "`client.cwd_is_workspace` must be true or false, not a string"),
        ("path = '/bin'", "`path` must be a list of strings, not a string"),
        ("path = ['/bin:/usr/bin']", "`/bin:/usr/bin` holds a colon"),
        ("data_dir = ''", "a path is empty"),
        ("data_dir = '~other/x'", "only the home directory of this user"),
        ("[host]\ndepth = 4", "`host.depth` is out of range"),
        ("[host]\nruns = -1", "`host.runs` is out of range"),
        ("[host]\nruns = 1.5", "must be a whole number, not a number with a fraction"),
        ("[host]\nruns = 99999999999999999999", "`host.runs` is out of range"),
        ("[stop]\nask = '1 hour'", "`hour` is no unit of time"),
        ("[profiles.x]", "profile `x` needs a file or a text"),
        ("[profiles.x]\nfile = 'a'\ntext = 'b'", "profile `x` needs a file or a text"),
        ("[profiles]\nx = 'a'", "`profiles.x` must be a table"),
        ("[backends]\nexec = true", "`backends.exec` must be a table, not a boolean"),
        ("[backends.'a/b']", "`a/b` is no name of a backend"),
        ("[backends.exec]\ndigest = 'abc'", "`digest` is not a SHA-256 in hex"),
        ("[backends.exec]\nconfig = { x = nan }", "the number has no form in JSON"),
        ("[backends.exec.allow]\nprogram = 'sh'", "must be true, false or a list of values, not a string"),
        ("[backends.exec.grants]\nprograms = ['sh']", "`backends.exec.grants.programs` must be a table, not a list"),
        ("[backends.exec.grants.programs]\nsh = 3", "program `sh` must be a path or a table, not a number"),
        ("[backends.exec.grants.programs]\nsh = 'sh -c'", "`sh -c` is neither a path nor the name of a program"),
        ("[backends.exec.grants.programs]\n'/bin/sh' = '/bin/sh'", "`/bin/sh` is no name for a program"),
        ("[backends.exec.grants.programs]\nsh = { first = ['-c'] }", "program `sh` has no `path`"),
        ("[backends.exec.grants.programs]\nsh = { path = 3, first = ['-c'] }", "must be a string, not a number"),
        ("[backends.exec.grants.programs]\nsh = { path = 'sh', args = [] }", "unknown key `args`"),
        ("[backends.exec.grants.programs]\nsh = { path = 'sh', max_args = 9999 }", "max_args` is out of range"),
        ("[backends.exec.grants.programs]\nsh = { path = 'sh', allow = ['[a-'] }", "`allow` holds a bad regular expression"),
        ("[backends.exec.grants.programs]\nsh = { path = 'sh', allow = ['a)|(?:b'] }", "`allow` holds a bad regular expression"),
        ("[backends.exec.grants]\nenv = 'LANG'", "must be a list of names or a table, not a string"),
        ("[backends.exec.grants]\nenv = ['A=B']", "`A=B` is no name of an environment variable"),
        ("[backends.exec.grants]\nenv = [3]", "must be a list of strings, not a number"),
        ("[backends.exec.grants]\nenv = { A = 3 }", "the value of `A` must be a string, true or false"),
        ("[backends.exec.grants]\nenv = ['FALCONER_RUN_ID']", "is set by the host"),
        ("[backends.exec.grants]\nhosts = ['example.org']", "`example.org` is not a host and a port"),
        ("[backends.exec.grants]\nhosts = ['a b:443']", "is not a host and a port"),
        ("[backends.exec.grants]\nhosts = ['::1:443']", "is not a host and a port"),
        ("[backends.exec.grants]\nhosts = ['a:0']", "is not a host and a port"),
        ("[backends.exec.grants]\nsecrets = { t = {} }", "secret `t` has no source"),
        ("[backends.exec.grants]\nsecrets = { t = { env = 'A', file = 'b' } }", "secret `t` has more than one source"),
        ("[backends.exec.grants]\nsecrets = { t = { command = [] } }", "the command of secret `t` is empty"),
        ("[backends.exec.grants]\nsecrets = { t = { value = 'x' } }", "secret `t` has no source"),
        ("[backends.exec.limits]\ntree_memory = '1 KiB'", "`backends.exec.limits.tree_memory` is out of range"),
        ("[backends.exec.limits]\ntree_processes = 0", "`backends.exec.limits.tree_processes` is out of range"),
        ("[backends.exec.limits]\ntree_cpu = 0.01", "`backends.exec.limits.tree_cpu` is out of range"),
        ("[backends.exec.limits]\ntree_cpu = nan", "`backends.exec.limits.tree_cpu` is out of range"),
        ("[backends.exec.limits]\ntree_cpu = '2'", "`backends.exec.limits.tree_cpu` must be a number of CPUs, not a string"),
    ] {
        let errors = parse(text).expect_err(text);
        assert!(errors.0[0].message.contains(message), "{text}\n{errors}");
        assert!(errors.0.iter().all(|error| error.hint.is_some() && error.place.is_some()), "{text}\n{errors}");
        let follow_ups = usize::from(text.contains("value = "));
        assert_eq!(errors.0.len(), 1 + follow_ups, "{text}\n{errors}");
    }
}

#[test]
fn a_secret_written_into_the_file_is_not_shown() {
    for text in ["[backends.exec.grants.secrets]\ntoken = 'canary-7f3a'\n", "[backends.exec.grants]\nsecrets = { token = 'canary-7f3a' }\n"]
    {
        let errors = parse(text).unwrap_err();
        assert!(errors.0[0].message.contains("the value itself has no place in this file"));
        assert!(!errors.to_string().contains("canary-7f3a"), "{errors}");
        assert!(errors.to_string().contains("token = **"), "{errors}");
    }
    let env = parse("[backends.exec.grants]\nenv = { 'A B' = 'canary-7f3a' }\n").unwrap_err().to_string();
    assert!(!env.contains("canary-7f3a"), "{env}");
}

#[test]
fn a_key_with_control_characters_is_shown_inert() {
    let shown = errors("\"\\u001b[31m\" = 1\n[backends.exec.grants]\nworkspaces = [\"~\\u0007\"]\n");
    assert!(shown.contains("unknown key `\u{fffd}[31m`"), "{shown}");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let errors = parse("[stop]\nask = 5\n[host]\nrun = 3\n[client]\ncwd_is_workspace = 1\n").unwrap_err();
    assert_eq!(errors.0.iter().map(|error| error.place.as_ref().unwrap().line).collect::<Vec<_>>(), [2, 4, 6]);
}
