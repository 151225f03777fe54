//! What a run of this backend is told: `config_schema` in `backend.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::mcp::Server;
use crate::permission::{Mode, Sandbox};

/// How often a failed request is tried again, where the config does not say.
const MAX_RETRIES: u32 = 2;
/// How long work in the background may go on after the answer, in seconds.
const BACKGROUND_WAIT_S: u64 = 600;

/// The backend's own config. The host has checked it against the schema.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub model: Option<String>,
    pub effort: Option<String>,
    pub permission_mode: Mode,
    pub sandbox: Option<Sandbox>,
    pub web_search: bool,
    pub max_turns: Option<u32>,
    pub max_tokens: Option<u64>,
    pub add_dirs: Vec<String>,
    pub mcp_catalog: BTreeMap<String, Server>,
    pub mcp_servers: Vec<String>,
    pub settings: Map<String, Value>,
    pub env: Vec<String>,
    max_retries: Option<u32>,
    background_wait_s: Option<u64>,
}

impl Config {
    /// Tries after a failed request.
    pub fn max_retries(&self) -> u32 {
        self.max_retries.unwrap_or(MAX_RETRIES)
    }

    /// How long work in the background may go on after the answer.
    pub fn background_wait_s(&self) -> u64 {
        self.background_wait_s.unwrap_or(BACKGROUND_WAIT_S)
    }

    /// For a plan, which callers see: what only the operator sets is named, not shown.
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        for value in shown.settings.values_mut() {
            *value = Value::from("set by the configuration");
        }
        shown
    }

    /// The sandbox that commands run in.
    pub fn sandbox(&self) -> Sandbox {
        self.permission_mode.sandbox(self.sandbox)
    }
}

#[cfg(test)]
mod tests {
    use falconer_backend::Info;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_description_is_whole_and_names_what_is_read() {
        let info = Info::try_from_json(include_str!("../backend.json")).unwrap();
        let schema: Value = serde_json::from_str(&info.config_schema).unwrap();
        let mut whole = json!({
            "model": "m", "effort": "low", "permission_mode": "plan", "sandbox": "read_only", "web_search": true, "max_turns": 1,
            "max_tokens": 2, "add_dirs": ["/d"], "mcp_catalog": {"a": {"command": "x", "env": {"A": "1", "B": true}}}, "mcp_servers": ["a"],
            "max_retries": 0, "background_wait_s": 1, "env": ["X"], "settings": {"a.b": 1},
        });
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut known = names(&schema["properties"]);
        known.sort();
        let mut read = names(&whole);
        read.sort();
        assert_eq!(known, read);
        let config: Config = serde_json::from_value(whole.take()).unwrap();
        assert_eq!((config.max_retries(), config.background_wait_s()), (0, 1));
        assert_eq!(Config::default().permission_mode, Mode::Ask);
    }
}
