//! The MCP servers of the agent: those that the run names out of the operator's catalogue, and no others.
//!
//! Codex merges what is set for a thread into its own configuration, so its own servers are turned off one by one, by name.

use std::collections::BTreeMap;

use falconer_backend::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::permission::Mode;

/// One server of `mcp_catalog`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    command: Option<String>,
    args: Vec<String>,
    env: BTreeMap<String, EnvValue>,
    url: Option<String>,
    headers: BTreeMap<String, HeaderValue>,
    required: Option<bool>,
    startup_timeout_s: Option<u32>,
    tool_timeout_s: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum EnvValue {
    Text(String),
    /// The granted variable or secret of the same name.
    Passed(bool),
}

impl EnvValue {
    const fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(true))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    Text(String),
    Of { env: String },
}

/// The servers of one run, by name.
#[derive(Debug, Clone, Default)]
pub struct Servers(BTreeMap<String, Server>);

impl Servers {
    /// What the config names.
    ///
    /// # Errors
    /// `invalid_argument`: a name that the catalogue does not have.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        let mut chosen = BTreeMap::new();
        for name in &config.mcp_servers {
            let Some(server) = config.mcp_catalog.get(name) else {
                let known: Vec<_> = config.mcp_catalog.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::new("invalid_argument", format!("mcp_servers: there is no server `{name}`; configured: {known}"))
                    .with_hint("name one of these, or add it to mcp_catalog in `config` of [backends.codex]"));
            };
            chosen.insert(name.clone(), server.clone());
        }
        Ok(Self(chosen))
    }

    /// Variables and secrets that Codex needs, so that it can pass them on.
    pub fn passed(&self) -> impl Iterator<Item = &str> {
        self.0.values().flat_map(|server| {
            let env = server.env.iter().filter_map(|(name, value)| value.is_passed().then_some(name.as_str()));
            let headers = server.headers.values().filter_map(|value| match value {
                HeaderValue::Of { env } => Some(env.as_str()),
                HeaderValue::Text(_) => None,
            });
            env.chain(headers)
        })
    }

    /// `mcp_servers` of a thread's config; `own` are the names of the servers in Codex's own configuration.
    ///
    /// # Errors
    /// `invalid_config`: a name is in both, and Codex would mix the two.
    pub fn thread_config(&self, own: &[String], mode: Mode) -> Result<Value, Failure> {
        let mut servers: Map<String, Value> = own.iter().map(|name| (name.clone(), json!({ "enabled": false }))).collect();
        for (name, server) in &self.0 {
            if servers.contains_key(name) {
                let message = format!("mcp_catalog: codex's own configuration has an MCP server `{name}`, too, and would mix the two");
                return Err(Failure::new("invalid_config", message).with_hint("give it another name in mcp_catalog"));
            }
            servers.insert(name.clone(), server.definition(mode));
        }
        Ok(Value::Object(servers))
    }
}

impl Server {
    fn definition(&self, mode: Mode) -> Value {
        // Codex begins a turn without a server that is slow to start, unless it is required.
        let mut all = Map::from_iter([("required".to_owned(), json!(self.required.unwrap_or(true)))]);
        let mut set = |name: &str, value: Value| _ = all.insert(name.to_owned(), value);
        if let Some(url) = &self.url {
            set("url", json!(url));
            let text = self.headers.iter().filter_map(|(name, value)| match value {
                HeaderValue::Text(text) => Some((name.clone(), json!(text))),
                HeaderValue::Of { .. } => None,
            });
            set("http_headers", Value::Object(text.collect()));
            let of = self.headers.iter().filter_map(|(name, value)| match value {
                HeaderValue::Of { env } => Some((name.clone(), json!(env))),
                HeaderValue::Text(_) => None,
            });
            set("env_http_headers", Value::Object(of.collect()));
        } else {
            set("command", json!(self.command));
            set("args", json!(self.args));
            let text = self.env.iter().filter_map(|(name, value)| match value {
                EnvValue::Text(text) => Some((name.clone(), json!(text))),
                EnvValue::Passed(_) => None,
            });
            set("env", Value::Object(text.collect()));
            let passed: Vec<_> = self.env.iter().filter(|(_, value)| value.is_passed()).map(|(name, _)| name).collect();
            set("env_vars", json!(passed));
        }
        if let Some(s) = self.startup_timeout_s {
            set("startup_timeout_sec", json!(s));
        }
        if let Some(s) = self.tool_timeout_s {
            set("tool_timeout_sec", json!(s));
        }
        if mode == Mode::Bypass {
            set("default_tools_approval_mode", json!("approve"));
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &[&str]) -> Config {
        let catalog = json!({
            "files": {"command": "files", "args": ["--ro"], "env": {"A": "1", "TOKEN": true}},
            "web": {"url": "https://mcp.example", "headers": {"X": "y", "Authorization": {"env": "AUTH"}}, "required": false, "tool_timeout_s": 5},
        });
        serde_json::from_value(json!({"mcp_catalog": catalog, "mcp_servers": servers})).unwrap()
    }

    #[test]
    fn only_named_servers_and_none_of_codexs_own() {
        let servers = Servers::of(&config(&["files", "web"])).unwrap();
        assert_eq!(servers.passed().collect::<Vec<_>>(), ["TOKEN", "AUTH"]);
        let all = servers.thread_config(&["mine".to_owned()], Mode::Ask).unwrap();
        assert_eq!(all["mine"], json!({"enabled": false}));
        assert_eq!(all["files"], json!({"command": "files", "args": ["--ro"], "env": {"A": "1"}, "env_vars": ["TOKEN"], "required": true}));
        assert_eq!(all["web"]["env_http_headers"], json!({"Authorization": "AUTH"}));
        assert_eq!((&all["web"]["required"], &all["web"]["tool_timeout_sec"]), (&json!(false), &json!(5)));
        assert_eq!(Servers::default().thread_config(&[], Mode::Ask).unwrap(), json!({}));
        assert_eq!(servers.thread_config(&["web".to_owned()], Mode::Ask).unwrap_err().code, "invalid_config");
        assert_eq!(servers.thread_config(&[], Mode::Bypass).unwrap()["files"]["default_tools_approval_mode"], "approve");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let failure = Servers::of(&config(&["other"])).unwrap_err();
        assert_eq!(failure.code, "invalid_argument");
        assert!(failure.message.ends_with("configured: files, web"), "{}", failure.message);
    }
}
