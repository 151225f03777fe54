//! Finding granted programs.
//!
//! A bare name is looked for on the configuration's `path`, never on the PATH of whoever started the host. The place that is
//! found is kept as it is, its last symbolic link unresolved: a program that is several by the name it is called (busybox), a
//! virtual environment's python, and one that is upgraded by turning its link all go on working.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::Access;

use crate::capability::Program;
use crate::config::{ProgramGrant, anchored};

/// Finds the program and makes its patterns ready. One that is not there stays in the grant, with the reason.
pub(super) fn resolve(grant: &ProgramGrant, path: &[Utf8PathBuf]) -> Program {
    let patterns: Result<Vec<_>, _> = grant.allow.iter().map(|pattern| anchored(pattern)).collect();
    let (place, allow) = match patterns {
        Ok(allow) => (find(&grant.program, path), allow),
        // The configuration was checked before; a pattern that is bad all the same must not become "any argument".
        Err(why) => (Err(format!("its `allow` holds a bad regular expression: {why}")), Vec::new()),
    };
    Program { path: place, first: grant.first.clone(), allow, max_args: grant.max_args }
}

/// Where a program is; or why it is nowhere.
pub(super) fn find(program: &str, path: &[Utf8PathBuf]) -> Result<Utf8PathBuf, String> {
    if program.contains('/') {
        return executable(Utf8Path::new(program)).map_err(|why| format!("{program} {why}"));
    }
    let mut seen = None;
    for dir in path {
        let place = dir.join(program);
        match executable(&place) {
            Ok(place) => return Ok(place),
            Err(why) if place.exists() => seen = seen.or(Some(format!("{place} {why}"))),
            Err(_) => {}
        }
    }
    Err(seen.unwrap_or_else(|| {
        let dirs: Vec<&str> = path.iter().map(|dir| dir.as_str()).collect();
        format!("`{program}` is in none of {}", dirs.join(", "))
    }))
}

fn executable(place: &Utf8Path) -> Result<Utf8PathBuf, String> {
    let meta = std::fs::metadata(place).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if place.is_symlink() => "is a symbolic link to nothing".to_owned(),
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    })?;
    if !meta.is_file() {
        return Err("is not a file".into());
    }
    rustix::fs::access(place.as_std_path(), Access::EXEC_OK).map_err(|_| "is not executable".to_owned())?;
    Ok(place.to_owned())
}

/// Judges the arguments that a backend adds: the rule that lets them pass, or the one that refuses. `place` is where the
/// program stands in the configuration.
pub(super) fn judge(place: &str, program: &Program, args: &[String]) -> Result<String, String> {
    if let Err(why) = &program.path {
        return Err(format!("{place}: granted, but {why}"));
    }
    if let Some(most) = program.max_args
        && args.len() > most as usize
    {
        return Err(format!("{place}.max_args: {} arguments, at most {most}", args.len()));
    }
    if !args.is_empty() && program.would_append() {
        return Err(format!("{place}: it takes no arguments of a backend, for `{{args}}` does not stand before `{{command}}`"));
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(format!("{place}: an argument holds a NUL"));
    }
    if program.allow.is_empty() {
        return Ok(format!("{place}: any arguments"));
    }
    match args.iter().position(|arg| !program.allow.iter().any(|pattern| pattern.is_match(arg))) {
        Some(at) => Err(format!("{place}.allow: argument {} matches no pattern", at + 1)),
        None => Ok(format!("{place}.allow")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn place(dir: &tempfile::TempDir, name: &str, mode: u32) -> Utf8PathBuf {
        let file = Utf8PathBuf::from_path_buf(dir.path().join(name)).unwrap();
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_name_is_looked_for_on_the_path_in_order() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path: Vec<Utf8PathBuf> = [&one, &two].iter().map(|dir| Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap()).collect();
        place(&one, "tool", 0o644);
        let second = place(&two, "tool", 0o755);
        assert_eq!(find("tool", &path), Ok(second), "the first is not executable");
        let why = find("nothing", &path).unwrap_err();
        assert!(why.starts_with("`nothing` is in none of /"), "{why}");
        assert!(find("tool", &path[..1]).unwrap_err().ends_with("tool is not executable"));
        assert!(find(one.path().to_str().unwrap(), &path).unwrap_err().ends_with("is not a file"));
        assert!(find("/nowhere/tool", &path).unwrap_err().ends_with("does not exist"));
    }

    #[test]
    fn a_link_is_kept_and_one_to_nothing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = vec![Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap()];
        let target = place(&dir, "tool-1.2", 0o755);
        let link = path[0].join("tool");
        symlink(&target, &link).unwrap();
        assert_eq!(find("tool", &path), Ok(link.clone()));
        std::fs::remove_file(&target).unwrap();
        assert!(find(link.as_str(), &path).unwrap_err().ends_with("is a symbolic link to nothing"));
    }

    #[test]
    fn arguments_are_judged_as_a_whole() {
        let grant = ProgramGrant {
            program: "/bin/sh".into(),
            first: vec!["-e".into()],
            allow: vec!["a)|(?:b".into(), "--depth=[0-9]+".into(), "x|y".into()],
            max_args: Some(2),
        };
        assert!(resolve(&grant, &[]).path.unwrap_err().contains("bad regular expression"), "a pattern cannot leave its anchors");
        let program = resolve(&ProgramGrant { allow: grant.allow[1..].to_vec(), ..grant }, &[]);
        let judged = |args: &[&str]| judge("sh", &program, &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert_eq!(judged(&["--depth=3", "x"]), Ok("sh.allow".into()));
        assert_eq!(judged(&[]), Ok("sh.allow".into()));
        for args in [&["--depth=3; rm"][..], &["xy"], &["x\n"], &["--depth=3\n"], &["z"]] {
            assert!(judged(args).unwrap_err().contains("argument 1 matches no pattern"), "{args:?}");
        }
        assert!(judged(&["x", "x", "x"]).unwrap_err().contains("3 arguments, at most 2"));
        assert!(judged(&["x\0"]).unwrap_err().contains("NUL"));
    }
}
