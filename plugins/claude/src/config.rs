//! What a run of this backend is told: `config_schema` in `backend.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How often a failed request is tried again, where the config does not say. The program's own 10 take minutes.
const MAX_RETRIES: u32 = 2;
/// How long work in the background may go on after the answer, in seconds.
const BACKGROUND_WAIT_S: u64 = 600;

/// The backend's own config. The host has checked it against the schema.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub model: Option<String>,
    pub effort: Option<String>,
    pub permission_mode: PermissionMode,
    pub allowed_tools: Vec<String>,
    pub disallowed_tools: Vec<String>,
    pub max_turns: Option<u32>,
    /// Of this run: input that is not from a cache, and output.
    pub max_tokens: Option<u64>,
    pub max_budget_usd: Option<f64>,
    /// Absolute and inside granted workspaces: the host has judged them.
    pub add_dirs: Vec<String>,
    pub mcp_catalog: BTreeMap<String, McpServer>,
    /// Names of the catalog.
    pub mcp_servers: Vec<String>,
    settings: Option<Vec<Source>>,
    pub expand_prompt: bool,
    pub scrub_env: bool,
    max_retries: Option<u32>,
    background_wait_s: Option<u64>,
    pub env: Vec<String>,
}

/// How much is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionMode {
    /// What the program's rules do not allow is asked.
    #[default]
    Ask,
    /// The same, but edits inside the run's directories are made without a question.
    AcceptEdits,
    /// Nothing is changed before a plan was approved.
    Plan,
    /// What would be asked is refused at once.
    NeverAskDeny,
    /// Nothing is asked.
    Bypass,
}

/// The value of a variable or a header.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// As it is, but for `${NAME}`.
    Text(String),
    /// `true`: the granted variable or secret of the same name.
    Same(bool),
    /// The granted variable or secret of that name.
    Of { env: String },
}

/// A file of settings that the program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `~/.claude/settings.json`, and the person's `CLAUDE.md`
    User,
    /// `.claude/settings.json` of the working directory, and its `CLAUDE.md`
    Project,
    /// `.claude/settings.local.json` there
    Local,
}

/// An MCP server for the agent. `${NAME}` in a value is a granted secret or variable.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum McpServer {
    /// A program that the agent starts.
    Program {
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, Value>,
    },
    /// A server of streamable HTTP.
    Http {
        url: String,
        #[serde(default)]
        headers: BTreeMap<String, Value>,
    },
}

impl Config {
    /// For a plan, which callers see: of the servers that only the operator sets, names of variables are shown, not values.
    pub fn shown(&self) -> Self {
        const HIDDEN: &str = "set by the configuration";
        let hide = |values: &mut BTreeMap<String, Value>| {
            for (name, value) in values {
                let shown = value.text(name);
                let inner = shown.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
                let is_name = inner.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
                if !is_name {
                    *value = Value::Text(HIDDEN.to_owned());
                }
            }
        };
        let mut shown = self.clone();
        for server in shown.mcp_catalog.values_mut() {
            match server {
                McpServer::Program { args, env, .. } => {
                    args.iter_mut().for_each(|arg| HIDDEN.clone_into(arg));
                    hide(env);
                }
                McpServer::Http { url, headers } => {
                    HIDDEN.clone_into(url);
                    hide(headers);
                }
            }
        }
        shown
    }

    /// Tries after a failed request.
    pub fn max_retries(&self) -> u32 {
        self.max_retries.unwrap_or(MAX_RETRIES)
    }

    /// Seconds for what is left in the background.
    pub fn background_wait_s(&self) -> u64 {
        self.background_wait_s.unwrap_or(BACKGROUND_WAIT_S)
    }

    /// Whose settings are read; without a word those that the program itself reads in a directory.
    pub fn settings(&self) -> &[Source] {
        self.settings.as_deref().unwrap_or(&[Source::User, Source::Project, Source::Local])
    }
}

impl Value {
    /// As the program takes it; it puts values of its environment in the place of names.
    pub fn text(&self, own: &str) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Same(_) => format!("${{{own}}}"),
            Self::Of { env } => format!("${{{env}}}"),
        }
    }
}

impl PermissionMode {
    /// The program's word, for `--permission-mode`.
    pub const fn word(self) -> &'static str {
        match self {
            // Later versions show it as `manual`, and take both.
            Self::Ask | Self::NeverAskDeny => "default",
            Self::AcceptEdits => "acceptEdits",
            Self::Plan => "plan",
            Self::Bypass => "bypassPermissions",
        }
    }

    /// Whether a person is asked.
    pub const fn asks(self) -> bool {
        !matches!(self, Self::NeverAskDeny)
    }
}

impl Source {
    /// The program's word, for `--setting-sources`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Local => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp;

    #[test]
    fn a_plan_shows_no_value_that_only_the_operator_sets() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "mcp_catalog": {
                "a": {"command": "c", "args": ["--key=literal"], "env": {"A": "literal", "B": true, "C": "${D:-literal}", "E": "${F}"}},
                "b": {"url": "https://x/?key=literal", "headers": {"H": "Bearer literal", "I": {"env": "J"}}},
            },
            "mcp_servers": ["a", "b"],
        }))
        .unwrap();
        let shown = mcp::servers(&config.shown()).unwrap().config.unwrap();
        assert!(!shown.contains("literal"), "{shown}");
        for name in ["${B}", "${F}", "${J}"] {
            assert!(shown.contains(name), "{shown}");
        }
    }
}
