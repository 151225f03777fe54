//! Argument lists through the shells that are at the far ends of this world: dash, bash, busybox's ash.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::super::quote;

/// The shells that are there, each as the words that start it. `tests/fetch` installs those that are not.
pub(super) fn shells() -> Vec<&'static [&'static str]> {
    const ALL: &[&[&str]] = &[&["/bin/dash"], &["/bin/bash"], &["/bin/busybox", "sh"], &["/bin/sh"]];
    let here: Vec<_> = ALL.iter().copied().filter(|words| Path::new(words[0]).exists()).collect();
    if here.len() < ALL.len() {
        assert_ne!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref(), Ok("all"), "dash, bash or busybox is missing: run tests/fetch");
        eprintln!("not all shells are here, only {here:?}: tests/fetch installs them");
    }
    here
}

/// A directory with a program that prints its own name and its arguments, each with a NUL behind it, under these names.
pub(super) fn recorder(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let file = dir.path().join(name);
        // Written by another process: an open descriptor in this one could be inherited by a child of another test, and then
        // the program would be busy.
        let script = "#!/bin/sh\nprintf '%s\\0' \"${0##*/}\" \"$@\"\n";
        let written = Command::new("/bin/sh").args(["-c", "printf %s \"$1\" >\"$2\"", "sh", script]).arg(&file).status().unwrap();
        assert!(written.success());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// What arrives when a shell executes this script. A long one is read from its input: a program takes no argument of 128 KiB.
pub(super) fn arrives(shell: &[&str], script: &[u8], path: &Path, locale: &str) -> Vec<Vec<u8>> {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).env_clear().env("PATH", path).env("LC_ALL", locale).stdout(Stdio::piped()).stderr(Stdio::piped());
    let long = script.len() > 100_000;
    if long {
        command.stdin(Stdio::piped());
    } else {
        command.arg("-c").arg(OsStr::from_bytes(script)).stdin(Stdio::null());
    }
    let mut child = command.spawn().unwrap();
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script).unwrap();
        input.write_all(b"\n").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.split_inclusive(|byte| *byte == 0).map(|part| part[..part.len() - 1].to_vec()).collect()
}

/// Every list arrives byte for byte in every shell, in a plain and in a UTF-8 locale.
fn check(lists: &[Vec<Vec<u8>>]) {
    let dir = recorder(&["rec"]);
    let program: PathBuf = dir.path().join("rec");
    for list in lists {
        let mut args = vec![program.as_os_str().as_bytes().to_vec()];
        args.extend(list.iter().cloned());
        let script = quote::exec(&args).unwrap();
        for shell in shells() {
            for locale in ["C", "C.UTF-8"] {
                let came = arrives(shell, &script, dir.path(), locale);
                assert!(came[0] == b"rec" && came[1..] == list[..], "{shell:?} {locale} {:?}", String::from_utf8_lossy(&script));
            }
        }
    }
}

#[test]
fn what_a_shell_could_see_arrives_as_it_is() {
    let texts: Vec<Vec<u8>> = [
        &b""[..],
        b" ",
        b"-n",
        b"--",
        b"~",
        b"~root",
        b"!",
        b"!!",
        b"a!b",
        b"it's",
        b"'",
        b"''",
        b"\"",
        b"\\",
        b"a\\",
        b"\\'",
        b"$HOME",
        b"${HOME}",
        b"$(id)",
        b"`id`",
        b"$((1+1))",
        b"*",
        b"?",
        b"[a-z]",
        b"{a,b}",
        b"{1..3}",
        b"a;b",
        b"a&b",
        b"a|b",
        b"a>b",
        b"a<b",
        b"<(id)",
        b"(",
        b")",
        b"#x",
        b"a #x",
        b"A=b",
        b"if",
        b"%1",
        b"^a^b",
        b"\n",
        b"a\nb",
        b"\n\n",
        b"\r\n",
        b"\t",
        b"\x1b[31m",
        b"\x7f",
        b"\x01",
        b"\xff",
        b"\xc3",
        b"\xc3'",
        b"'\xc3",
        b"\xf0\x9f\x98\x80",
        b"\x80\x27\x81",
        b"\xe2\x80\xae",
        b"a  b",
        b" a",
        b"a ",
        b"=ls",
        b"[",
        b"]",
        b"@",
        b"\\n",
        b"\\0",
        b"%s",
        b"\xe3\x80\x80",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .collect();
    check(&[texts, vec![], vec![vec![]], vec![vec![], vec![]]]);
}

#[test]
fn a_long_list_arrives() {
    let every: Vec<u8> = (1..=255u8).cycle().take(100_000).collect();
    let quotes = vec![b'\''; 100_000];
    let mixed: Vec<u8> = b"'x\"\n".iter().copied().cycle().take(100_000).collect();
    check(&[vec![every], vec![quotes, mixed], vec![b"word".to_vec(); 4_000]]);
}

#[test]
fn a_builtin_or_a_function_of_that_name_is_not_taken() {
    let names = ["echo", "eval", "if", "cd", "printf", "test", "a=b", "exec"];
    let dir = recorder(&names);
    for shell in shells() {
        for name in names {
            let script = quote::exec(&[name, "x y"]).unwrap();
            let mut with = b"echo() { /bin/false; }; ".to_vec();
            with.extend(&script);
            assert_eq!(arrives(shell, &with, dir.path(), "C"), [name.as_bytes(), b"x y"], "{shell:?} {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any list of any bytes.
    #[test]
    fn any_list_arrives(list in prop::collection::vec(prop_oneof![
        prop::collection::vec(1u8..=255, 0..40),
        prop::collection::vec(prop::sample::select(&b" \t\n'\"\\$`!*?[]{}()<>|&;#~=%^-a\xc3\xa9\xff"[..]), 0..24),
    ], 0..8)) {
        check(&[list]);
    }
}
