//! How `codex` is started: arguments and environment.

use falconer_backend::{Command, Failure, Job, USUAL_ENV};
use serde_json::{Value, json};

use crate::config::Config;
use crate::mcp::Servers;
use crate::toml;

/// The name of the granted program.
pub const PROGRAM: &str = "codex";
/// The provider that takes a key from the environment: Codex's own one does not.
pub const KEY_PROVIDER: &str = "openai-key";
/// Codex's own provider.
pub const OWN_PROVIDER: &str = "openai";
/// Where a key is good, unless `openai_base_url` says otherwise.
const OPENAI_URL: &str = "https://api.openai.com/v1";
/// What codex can use beside what all programs can, where it is granted.
const USEFUL_ENV: [&str; 3] = ["CODEX_HOME", "CODEX_SQLITE_HOME", "CODEX_CA_CERTIFICATE"];
/// What of it reaches the commands of the agent, beside `env` of the config: nothing with a key.
const COMMAND_ENV: [&str; 11] = ["HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", MARK];
/// The mark of the run's processes.
const MARK: &str = "FALCONER_RUN_ID";

/// A granted secret that is a key of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Meant for Codex: it goes before a login.
    Codex,
    /// Serves where there is no login.
    OpenAi,
}

impl Key {
    /// The best one that is granted and has a value.
    pub fn of(available: impl Fn(&str) -> bool) -> Option<Self> {
        [Self::Codex, Self::OpenAi].into_iter().find(|key| available(key.name()))
    }

    /// The name of the secret, and of the variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Codex => "CODEX_API_KEY",
            Self::OpenAi => "OPENAI_API_KEY",
        }
    }
}

/// The start for this job. `available` tells whether a secret is granted and has a value.
///
/// # Errors
/// `invalid_config`
pub fn command(job: &Job, config: &Config, servers: &Servers, available: impl Fn(&str) -> bool) -> Result<Command, Failure> {
    let key = Key::of(&available);
    let mut command = Command::new(PROGRAM).args(arguments(job, config, key)?).piped_stdin();
    let mut named: Vec<&str> = config.env.iter().map(String::as_str).chain(servers.passed()).collect();
    named.sort_unstable();
    named.dedup();
    for name in USUAL_ENV.into_iter().chain(USEFUL_ENV).filter(|name| !named.contains(name)) {
        command = command.env_if_granted(name);
    }
    for name in [Key::Codex, Key::OpenAi].map(Key::name).into_iter().filter(|name| !named.contains(name) && available(name)) {
        command = command.env_secret(name, name);
    }
    for name in named {
        command = if available(name) { command.env_secret(name, name) } else { command.env_inherited(name) };
    }
    Ok(command)
}

/// The arguments. What the operator sets comes last and so goes before ours.
fn arguments(job: &Job, config: &Config, key: Option<Key>) -> Result<Vec<String>, Failure> {
    let mut args = vec!["app-server".to_owned()];
    let mut set = |name: &str, value: &Value| -> Result<(), Failure> {
        args.push("-c".to_owned());
        args.push(format!("{name}={}", toml::inline(value)?));
        Ok(())
    };
    set("check_for_update_on_startup", &json!(false))?;
    set("analytics.enabled", &json!(false))?;
    set("suppress_unstable_features_warning", &json!(true))?;
    // The agent may ask; only a thread in plan mode may by itself.
    set("features.default_mode_request_user_input", &json!(true))?;
    // Else an API that cannot be reached is tried for ever.
    set("features.unbounded_connection_retries", &json!(false))?;
    // Codex's own configuration may widen the sandbox, and bring MCP servers that have no name in it: only the operator may.
    set("sandbox_workspace_write.network_access", &json!(false))?;
    set("sandbox_workspace_write.writable_roots", &json!([]))?;
    set("features.apps", &json!(false))?;
    set("features.plugins", &json!(false))?;
    set("web_search", &json!(if config.web_search { "live" } else { "disabled" }))?;
    let reaching: Vec<&str> = COMMAND_ENV.into_iter().chain(config.env.iter().map(String::as_str)).collect();
    let policy = json!({
        "inherit": "all",
        "ignore_default_excludes": true,
        "include_only": reaching,
        "set": { MARK: job.run_id },
    });
    set("shell_environment_policy", &policy)?;
    if let Some(key) = key.filter(|_| !config.settings.contains_key("model_provider")) {
        let url = config.settings.get("openai_base_url").and_then(Value::as_str).unwrap_or(OPENAI_URL);
        let mut provider = json!({ "name": "OpenAI", "base_url": url, "wire_api": "responses", "env_key": key.name() });
        bound(&mut provider, config);
        set(&format!("model_providers.{KEY_PROVIDER}"), &provider)?;
    }
    for (name, value) in &config.settings {
        let mut value = value.clone();
        if name.strip_prefix("model_providers.").is_some_and(|rest| !rest.contains('.')) {
            bound(&mut value, config);
        }
        set(name, &value)?;
    }
    Ok(args)
}

/// Bounds the retries of a provider that does not say it itself.
fn bound(provider: &mut Value, config: &Config) {
    if let Value::Object(fields) = provider {
        for name in ["request_max_retries", "stream_max_retries"] {
            fields.entry(name).or_insert_with(|| json!(config.max_retries()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            run_id: "run_abc".to_owned(),
            life: 1,
            message: vec![],
            instructions: None,
            cwd: None,
            session: None,
            target: None,
            output_schema: None,
            config: "{}".to_owned(),
            limits: falconer_backend::Limits { wall_ms: None, idle_ms: None, ask_ms: 1, output_bytes: 1 },
            checkpoint: None,
            only_end: false,
        }
    }

    #[test]
    fn a_key_brings_a_provider_with_bounded_retries() {
        let config = Config::default();
        let args = arguments(&job(), &config, Some(Key::OpenAi)).unwrap().join(" ");
        for part in [
            "model_providers.openai-key={",
            r#""base_url" = "https://api.openai.com/v1""#,
            r#""env_key" = "OPENAI_API_KEY""#,
            r#""stream_max_retries" = 2"#,
        ] {
            assert!(args.contains(part), "{args}");
        }
        assert!(args.contains(r#""set" = {"FALCONER_RUN_ID" = "run_abc"}"#), "{args}");
        let none = arguments(&job(), &config, None).unwrap().join(" ");
        assert!(!none.contains("model_providers"), "{none}");
    }

    #[test]
    fn the_operators_settings_come_last() {
        let config: Config = serde_json::from_value(json!({
            "max_retries": 1,
            "settings": {"model_provider": "mock", "model_providers.mock": {"base_url": "u", "stream_max_retries": 7}, "web_search": "cached"},
        }))
        .unwrap();
        let args = arguments(&job(), &config, Some(Key::Codex)).unwrap();
        let place = |what: &str| args.iter().rposition(|arg| arg.starts_with(what)).unwrap();
        assert_eq!(args[place("web_search=")], r#"web_search="cached""#);
        let provider = args.iter().find(|arg| arg.starts_with("model_providers.mock=")).unwrap();
        assert!(provider.contains(r#""stream_max_retries" = 7"#) && provider.contains(r#""request_max_retries" = 1"#), "{provider}");
        assert!(!args.iter().any(|arg| arg.contains(KEY_PROVIDER)));
    }

    #[test]
    fn a_key_for_codex_goes_before_another() {
        assert_eq!(Key::of(|_| true), Some(Key::Codex));
        assert_eq!(Key::of(|name| name == "OPENAI_API_KEY"), Some(Key::OpenAi));
        assert_eq!(Key::of(|_| false), None);
    }
}
