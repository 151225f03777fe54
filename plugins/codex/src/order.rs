//! What a run wants of Codex: the parameters of its thread and of its turns.

use std::time::Duration;

use falconer_backend::{Failure, Job, PriorSession};
use serde_json::{Map, Value, json};

use crate::argv::{KEY_PROVIDER, Key, OWN_PROVIDER};
use crate::config::Config;
use crate::mcp::Servers;
use crate::permission::{Mode, Sandbox};

/// Made of the job and its config; nothing of it changes.
#[derive(Debug, Clone)]
pub struct Order {
    pub mode: Mode,
    pub max_turns: Option<u32>,
    pub max_tokens: Option<u64>,
    pub background_wait: Duration,
    pub cwd: Option<String>,
    pub prior: Option<PriorSession>,
    pub has_schema: bool,
    /// The person's message, as `input` of the first turn.
    pub input: Vec<Value>,
    schema: Option<Value>,
    sandbox: Sandbox,
    model: Option<String>,
    effort: Option<String>,
    instructions: Option<String>,
    add_dirs: Vec<String>,
    servers: Servers,
    key: Option<Key>,
    provider: Option<String>,
}

/// What Codex says of its own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnConfig {
    /// Names of its MCP servers.
    pub servers: Vec<String>,
    pub provider: Option<String>,
}

/// What Codex says of its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// There is one.
    Present,
    /// The provider of its configuration needs none.
    NotNeeded,
    Missing,
}

/// What is known of an opened thread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thread {
    pub id: String,
    pub model: String,
    /// It comes out of a session that was in plan mode.
    pub planning: bool,
}

impl Order {
    /// Reads the job.
    ///
    /// # Errors
    /// `invalid_session`, `invalid_config`
    pub fn of(job: &Job, config: &Config, servers: Servers, input: Vec<Value>, key: Option<Key>) -> Result<Self, Failure> {
        let prior = job.session.clone();
        if let Some(prior) = &prior
            && (prior.native_id.is_empty() || !prior.native_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        {
            return Err(Failure::new("invalid_session", format!("{:?} is no session id of codex", prior.native_id)));
        }
        let schema = job.output_schema.as_deref().map(serde_json::from_str).transpose();
        let schema: Option<Value> = schema.map_err(|error| Failure::new("invalid_config", format!("output_schema: {error}")))?;
        Ok(Self {
            mode: config.permission_mode,
            max_turns: config.max_turns,
            max_tokens: config.max_tokens,
            background_wait: Duration::from_secs(config.background_wait_s()),
            cwd: job.cwd.clone(),
            prior,
            has_schema: schema.is_some(),
            input,
            schema,
            sandbox: config.sandbox(),
            model: config.model.clone(),
            effort: config.effort.clone(),
            instructions: job.instructions.clone().filter(|text| !text.is_empty()),
            add_dirs: config.add_dirs.clone(),
            servers,
            key,
            provider: config.settings.get("model_provider").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// The provider of the thread: the operator's, a key that is meant for Codex, a login, or another key.
    ///
    /// # Errors
    /// `auth_required`: none of them.
    pub fn provider(&self, own: &OwnConfig, login: Login) -> Result<String, Failure> {
        if let Some(provider) = &self.provider {
            return Ok(provider.clone());
        }
        match (self.key, login) {
            (Some(Key::Codex), Login::Present | Login::Missing) | (Some(Key::OpenAi), Login::Missing) => Ok(KEY_PROVIDER.to_owned()),
            (_, Login::Present | Login::NotNeeded) => Ok(own.provider.clone().unwrap_or_else(|| OWN_PROVIDER.to_owned())),
            (None, Login::Missing) => Err(crate::verdict::no_login()),
        }
    }

    /// The request that opens the thread.
    ///
    /// # Errors
    /// `invalid_config`
    pub fn open(&self, own: &OwnConfig, provider: &str) -> Result<(&'static str, Value), Failure> {
        let mut config = Map::new();
        config.insert("mcp_servers".to_owned(), self.servers.thread_config(&own.servers, self.mode)?);
        if !self.add_dirs.is_empty() {
            config.insert("sandbox_workspace_write".to_owned(), json!({ "writable_roots": self.add_dirs }));
        }
        let mut params = json!({
            "modelProvider": provider,
            "approvalPolicy": self.mode.approval(),
            "approvalsReviewer": "user",
            "sandbox": self.sandbox.word(),
            "config": config,
        });
        let mut set = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                params[name] = json!(value);
            }
        };
        set("cwd", self.cwd.as_ref());
        set("model", self.model.as_ref());
        set("developerInstructions", self.instructions.as_ref());
        let Some(prior) = &self.prior else { return Ok(("thread/start", params)) };
        params["threadId"] = json!(prior.native_id);
        params["excludeTurns"] = json!(true);
        Ok((if prior.fork { "thread/fork" } else { "thread/resume" }, params))
    }

    /// `turn/start`. `client` is the message's id here; the program gives it back with the message.
    pub fn turn(&self, thread: &Thread, input: &[Value], client: &str) -> Value {
        let mut params = json!({ "threadId": thread.id, "input": input, "clientUserMessageId": client });
        if let Some(schema) = &self.schema {
            params["outputSchema"] = schema.clone();
        }
        if let Some(effort) = &self.effort {
            params["effort"] = json!(effort);
        }
        let mode = match self.mode {
            Mode::Plan => Some("plan"),
            _ if thread.planning => Some("default"),
            _ => None,
        };
        if let Some(mode) = mode {
            let settings = json!({ "model": thread.model, "reasoning_effort": self.effort, "developer_instructions": null });
            params["collaborationMode"] = json!({ "mode": mode, "settings": settings });
        }
        params
    }
}
