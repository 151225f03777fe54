//! The environment of `claude`: built of what is granted, by name; nothing of the host's own.
//!
//! The program hands its whole environment on to the commands and MCP servers that it starts, also the key of its API;
//! `scrub_env` has it keep keys back, which it does with bubblewrap alone.

use std::collections::BTreeSet;

use falconer_backend::{Command, USUAL_ENV};

use crate::config::Config;

/// What claude and its tools can use beside what all programs can, where it is granted.
const USEFUL: [&str; 13] = [
    "CLAUDE_CONFIG_DIR",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "AWS_REGION",
    "AWS_PROFILE",
    "CLOUD_ML_REGION",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "NODE_EXTRA_CA_CERTS",
    // "A sandbox is around me": as root, the program bypasses permissions only then.
    "IS_SANDBOX",
];
/// Granted secrets that are passed on under their own names.
const SECRETS: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// Keeps keys back from commands; needs bubblewrap.
const SCRUB: &str = "CLAUDE_CODE_SUBPROCESS_ENV_SCRUB";

/// The command with its environment. `servers` are the names that the definitions of MCP servers use; `available` tells
/// whether a secret is granted and has a value.
pub fn with(mut command: Command, config: &Config, servers: &BTreeSet<String>, available: impl Fn(&str) -> bool) -> Command {
    let own: Vec<(&str, String)> = vec![
        ("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1".to_owned()),
        ("CLAUDE_CODE_MAX_RETRIES", config.max_retries().to_string()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
    ];
    let mut named: BTreeSet<&str> = own.iter().map(|(name, _)| *name).collect();
    for (name, value) in &own {
        command = command.env(*name, value);
    }
    if config.scrub_env {
        named.insert(SCRUB);
        command = command.env(SCRUB, "1");
    }
    let secrets = SECRETS.into_iter().chain(servers.iter().chain(&config.env).map(String::as_str));
    for name in secrets.filter(|name| available(name)).collect::<BTreeSet<_>>() {
        if named.insert(name) {
            command = command.env_secret(name, name);
        }
    }
    // What is asked for by name must be granted; the rest is left out where it is not.
    for name in config.env.iter().chain(servers).map(String::as_str) {
        if named.insert(name) {
            command = command.env_inherited(name);
        }
    }
    for name in USUAL_ENV.into_iter().chain(USEFUL) {
        if named.insert(name) {
            command = command.env_if_granted(name);
        }
    }
    command
}
