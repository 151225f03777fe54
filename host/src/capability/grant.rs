//! What a grant allows: programs, arguments, environment names, directories. Each refusal names the rule that would
//! allow it.

use std::os::fd::OwnedFd;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags, open};

use super::{Program, Setup, limits};
use crate::contract::falconer::backend::process::{EnvValue, SpawnError};
use crate::tree::MARK;

/// Names that no component may set by its own text: they change which code a program loads. A person may grant one of
/// them (`[backends.NAME.grants] env`).
const LOADING: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CLASSPATH",
    "ENV",
    "GCONV_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GLIBC_TUNABLES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LOCPATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "SSH_SK_HELPER",
    "SSH_SK_PROVIDER",
    "_JAVA_OPTIONS",
];
const LOADING_PREFIXES: &[&str] = &["LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];
pub const OURS: &str = "FALCONER_";

/// Parts of names whose values are hidden in the output, though they are no declared secrets.
const CREDENTIAL: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// Whether a variable of this name looks like a credential.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CREDENTIAL.iter().any(|part| name.contains(part))
}

/// A program by the name under which it is granted.
pub fn program<'a>(setup: &'a Setup, name: &str) -> Result<(&'a Program, &'a Utf8Path), SpawnError> {
    let Some(program) = setup.grant.programs.get(name) else {
        return Err(SpawnError::Denied(format!(
            "the program `{}` is not granted: [backends.{}.grants] programs would allow it",
            name.escape_default(),
            setup.backend
        )));
    };
    match &program.path {
        Ok(path) => Ok((program, path)),
        Err(why) => Err(SpawnError::NotFound(format!(
            "the program `{name}` is granted, but was not found: {why}; install it, or correct [backends.{}.grants] programs",
            setup.backend
        ))),
    }
}

/// The arguments that a component adds.
pub fn args(setup: &Setup, name: &str, program: &Program, args: &[String]) -> Result<(), SpawnError> {
    let rule = |what: &str| format!("[backends.{}.grants] programs.{name}: {what}", setup.backend);
    if let Some(most) = program.max_args
        && args.len() > most as usize
    {
        return Err(SpawnError::Denied(format!("{} arguments for `{name}`; {}", args.len(), rule(&format!("max_args = {most}")))));
    }
    if !args.is_empty() && program.would_append() {
        return Err(SpawnError::Denied(format!(
            "`{name}` takes no arguments of a backend; {}",
            rule("`{args}` does not stand before `{command}`")
        )));
    }
    for (at, arg) in args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(SpawnError::Other(format!("argument {} for `{name}` holds a NUL, which no program can be given", at + 1)));
        }
        if !program.allow.is_empty() && !program.allow.iter().any(|allowed| is_whole_match(allowed, arg)) {
            return Err(SpawnError::Denied(format!("argument {} for `{name}` matches none of {}", at + 1, rule("allow"))));
        }
    }
    Ok(())
}

/// Whether a program that is for the far end is asked for it, and no other.
pub fn far(setup: &Setup, name: &str, program: &Program, asked: bool) -> Result<(), SpawnError> {
    match (program.is_far(), asked) {
        (true, false) => Err(SpawnError::Denied(format!(
            "the program `{name}` is granted for commands at a target alone ([backends.{}.grants] programs.{name} says `{{command}}` or `{{target}}`)",
            setup.backend
        ))),
        (false, true) => Err(SpawnError::Denied(format!(
            "far-end commands need a grant with `{{command}}` and `{{target}}`, and [backends.{}.grants] programs.{name} has none",
            setup.backend
        ))),
        (true, true) | (false, false) => Ok(()),
    }
}

/// The patterns are anchored already; this holds also if one were not.
fn is_whole_match(allowed: &regex::Regex, text: &str) -> bool {
    allowed.find(text).is_some_and(|found| found.start() == 0 && found.end() == text.len())
}

/// The variables of a program for the far end: what is granted, and no text of a component's. Such programs and their libraries take
/// helpers and modules from more variables than can be listed.
pub fn far_env(setup: &Setup, program: &str, env: &[(String, EnvValue)]) -> Result<(), SpawnError> {
    match env.iter().find(|(_, value)| matches!(value, EnvValue::Text(_) | EnvValue::Secret(_))) {
        None => Ok(()),
        Some((name, _)) => Err(SpawnError::Denied(format!(
            "the program `{program}` is for the far end, and takes the variable `{}` from the grant alone: [backends.{}.grants] env",
            name.escape_default(),
            setup.backend
        ))),
    }
}

/// The name of a variable that a component sets.
pub fn env_name(name: &str) -> Result<(), SpawnError> {
    if name.contains(['=', '\0']) {
        return Err(SpawnError::Other(format!("`{}` is no name of an environment variable", name.escape_default())));
    }
    if name == MARK {
        return Err(SpawnError::Denied(format!("the variable `{name}` is set by the host alone")));
    }
    Ok(())
}

/// The name of a variable whose value is a component's own text: none that leads a `falconer` inside the run elsewhere.
pub fn env_text(setup: &Setup, name: &str) -> Result<(), SpawnError> {
    if name.starts_with(OURS) {
        return Err(SpawnError::Denied(format!(
            "the variable `{name}` is the host's own: only [backends.{}.grants] env may give it a value",
            setup.backend
        )));
    }
    env_loads(setup, name)
}

/// The name of a variable whose value is a component's own text, or a secret that it chose.
pub fn env_loads(setup: &Setup, name: &str) -> Result<(), SpawnError> {
    if LOADING.contains(&name) || LOADING_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(SpawnError::Denied(format!(
            "the variable `{name}` changes which code a program loads: only [backends.{}.grants] env may give it a value",
            setup.backend
        )));
    }
    Ok(())
}

/// Opens a directory and judges what was opened, so that nobody can put another in its place afterwards. Blocks.
pub fn directory(backend: &str, path: &str, workspaces: &[Utf8PathBuf]) -> Result<OwnedFd, SpawnError> {
    let shown = path.escape_debug();
    if !path.starts_with('/') || path.contains('\0') || path.len() > limits::PATH {
        return Err(SpawnError::Denied(format!("the working directory `{shown}` is no absolute path")));
    }
    let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| SpawnError::Other(format!("the working directory `{shown}`: {}", std::io::Error::from(error))))?;
    let real = where_is(&fd).map_err(|error| SpawnError::Other(format!("the working directory `{shown}`: {error}")))?;
    if workspaces.iter().any(|workspace| real.starts_with(workspace)) {
        return Ok(fd);
    }
    Err(SpawnError::Denied(format!(
        "the working directory `{shown}` is `{}`, which lies in no workspace of this run: [backends.{backend}.grants] workspaces would allow it",
        real.as_str().escape_debug()
    )))
}

/// Where an opened directory is now, without symbolic links.
fn where_is(fd: &OwnedFd) -> std::io::Result<Utf8PathBuf> {
    use std::os::fd::AsRawFd;
    if rustix::fs::fstat(fd)?.st_nlink == 0 {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Utf8PathBuf::from_path_buf(path).map_err(|_| std::io::Error::other("its real path is no UTF-8"))
}

/// A child that is given no directory works in the root, not in whatever directory the host has.
pub fn root() -> Result<OwnedFd, SpawnError> {
    open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| SpawnError::Other(format!("/: {}", std::io::Error::from(error))))
}

/// A program by a path, or by a name on `path`. Blocks.
pub fn find(name: &str, path: &str) -> Result<Utf8PathBuf, String> {
    let is_program = |file: &Utf8Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.starts_with('/') {
        let file = Utf8PathBuf::from(name);
        return if is_program(&file) { Ok(file) } else { Err(format!("{name} is no program")) };
    }
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Utf8Path::new(folder).join(name))
        .find(|file| is_program(file))
        .ok_or_else(|| format!("no program `{name}` on {path}"))
}
