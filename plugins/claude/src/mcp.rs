//! The MCP servers that the agent gets: of the catalog that the configuration keeps, those that the run names, and no others.

use std::collections::{BTreeMap, BTreeSet};

use falconer_backend::Failure;
use serde_json::{Map, Value, json};

use crate::config::{self, Config, McpServer};

/// The servers of one run.
#[derive(Debug, Default, PartialEq)]
pub struct Servers {
    /// For `--mcp-config`; none where there is no server. It holds names of variables, never values of secrets.
    pub config: Option<String>,
    /// What it takes from the program's environment: secrets, or variables that are granted.
    pub names: BTreeSet<String>,
}

/// The servers that the config names.
///
/// # Errors
/// `invalid_argument`: one is not in the catalog.
pub fn servers(config: &Config) -> Result<Servers, Failure> {
    let mut chosen = Map::new();
    let mut names = BTreeSet::new();
    for name in &config.mcp_servers {
        let Some(server) = config.mcp_catalog.get(name) else {
            let known: Vec<&str> = config.mcp_catalog.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::new("invalid_argument", format!("no MCP server {name:?} is in the catalog; there are: {known}"))
                .with_hint("take one of these, or a person adds it to the configuration: [backends.claude.config.mcp_catalog]"));
        };
        let server = match server {
            McpServer::Program { command, args, env } => {
                json!({ "type": "stdio", "command": command, "args": args, "env": table(env) })
            }
            McpServer::Http { url, headers } => json!({ "type": "http", "url": url, "headers": table(headers) }),
        };
        collect(&server, &mut names);
        chosen.insert(name.clone(), server);
    }
    let config = (!chosen.is_empty()).then(|| json!({ "mcpServers": chosen }).to_string());
    Ok(Servers { config, names })
}

fn table(values: &BTreeMap<String, config::Value>) -> BTreeMap<&String, String> {
    values.iter().map(|(name, value)| (name, value.text(name))).collect()
}

/// The names in `${NAME}` and `${NAME:-else}`, which the program replaces by values of its environment.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            for piece in text.split("${").skip(1) {
                let Some((inner, _)) = piece.split_once('}') else { continue };
                let name = inner.split_once(":-").map_or(inner, |(name, _)| name);
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit()) {
                    names.insert(name.to_owned());
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn those_that_are_named_and_no_others() {
        let catalog = r#""mcp_catalog": {
            "db": {"command": "db-mcp", "args": ["--url=${DB_URL:-local}"], "env": {"TOKEN": "${DB_TOKEN}", "PLAIN": "a$b ${} ${1x}", "SAME": true}},
            "web": {"url": "https://x.example/mcp", "headers": {"Authorization": "Bearer ${WEB_TOKEN}", "X-Key": {"env": "WEB_KEY"}}}
        }"#;
        let none = servers(&config(&format!("{{{catalog}}}"))).unwrap();
        assert_eq!(none, Servers::default());
        let both = servers(&config(&format!("{{{catalog}, \"mcp_servers\": [\"web\", \"db\"]}}"))).unwrap();
        assert_eq!(both.names.iter().map(String::as_str).collect::<Vec<_>>(), ["DB_TOKEN", "DB_URL", "SAME", "WEB_KEY", "WEB_TOKEN"]);
        let value: Value = serde_json::from_str(&both.config.unwrap()).unwrap();
        assert_eq!(value["mcpServers"]["web"]["type"], "http");
        assert_eq!(value["mcpServers"]["db"]["env"]["TOKEN"], "${DB_TOKEN}");
        assert_eq!(
            (&value["mcpServers"]["db"]["env"]["SAME"], &value["mcpServers"]["web"]["headers"]["X-Key"]),
            (&json!("${SAME}"), &json!("${WEB_KEY}"))
        );
        let failure = servers(&config(&format!("{{{catalog}, \"mcp_servers\": [\"mail\"]}}"))).unwrap_err();
        assert_eq!(failure.code, "invalid_argument");
        assert!(failure.message.contains("there are: db, web"), "{}", failure.message);
    }
}
