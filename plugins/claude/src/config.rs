//! What a run of this backend is told: `config_schema` in `backend.json`.

use serde::Deserialize;

/// How often a failed request is tried again, where the config does not say. The program's own 10 take minutes.
const MAX_RETRIES: u32 = 2;
/// How long work in the background may go on after the answer, in seconds.
const BACKGROUND_WAIT_S: u64 = 600;

/// The backend's own config. The host has checked it against the schema.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub permission_mode: Option<String>,
    #[serde(default)]
    pub allowed_tools: Vec<String>,
    #[serde(default)]
    pub disallowed_tools: Vec<String>,
    #[serde(default)]
    pub max_turns: Option<u32>,
    #[serde(default)]
    pub max_budget_usd: Option<f64>,
    #[serde(default)]
    pub effort: Option<String>,
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(default)]
    background_wait_s: Option<u64>,
    #[serde(default)]
    pub env: Vec<String>,
}

impl Config {
    /// Tries after a failed request.
    pub fn max_retries(&self) -> u32 {
        self.max_retries.unwrap_or(MAX_RETRIES)
    }

    /// Seconds for what is left in the background.
    pub fn background_wait_s(&self) -> u64 {
        self.background_wait_s.unwrap_or(BACKGROUND_WAIT_S)
    }
}
