//! The command line as an MCP client of the host: the same calls as any other client makes.
//!
//! A tool error comes back as the [`Fault`] it was; a connection that cannot be made or breaks is `host_unreachable`.

use std::time::Duration;

use rmcp::RoleClient;
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::{RunningService, ServiceError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Globals;
use super::exit::HOST_UNREACHABLE;
use crate::daemon::connect;
use crate::fault::{Fault, code};

/// How long the host may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(15);
/// How long closing may take before it is left to the system.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// A connection to the host, as an MCP client.
pub struct Client {
    service: RunningService<RoleClient, ClientConfig>,
}

/// Connects to the daemon of the data directory, starting it if there is none.
pub async fn connect(globals: &Globals) -> Result<Client, Fault> {
    let (input, output) = connect::open(&globals.overrides()?).await?;
    Client::over(input, output).await
}

fn unreachable(message: String) -> Fault {
    Fault::new(HOST_UNREACHABLE, message).retryable().hint("`falconer status` says whether the host is there; its log says why it is not")
}

impl Client {
    /// Speaks MCP over these.
    pub async fn over<R, W>(input: R, output: W) -> Result<Self, Fault>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let me = ClientConfig::new(ClientCapabilities::default(), Implementation::new("falconer-cli", env!("CARGO_PKG_VERSION")));
        match tokio::time::timeout(HELLO_LIMIT, me.serve((input, output))).await {
            Ok(Ok(service)) => Ok(Self { service }),
            Ok(Err(error)) => Err(unreachable(format!("the host did not begin to speak: {error}"))),
            Err(_) => Err(unreachable(format!("the host said nothing for {} s", HELLO_LIMIT.as_secs()))),
        }
    }

    /// Calls a tool. Dropping the future tells the host that nobody waits for the answer any more.
    pub async fn call<Q, A>(&self, tool: &'static str, request: &Q) -> Result<A, Fault>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let value = self.call_value(tool, request).await?;
        serde_json::from_value(value)
            .map_err(|error| Fault::new(code::INTERNAL, format!("the host's answer to {tool} is of another version: {error}")))
    }

    /// The same, with the answer as the host wrote it.
    pub async fn call_value<Q: Serialize + Sync>(&self, tool: &'static str, request: &Q) -> Result<Value, Fault> {
        let arguments = match serde_json::to_value(request) {
            Ok(Value::Object(arguments)) => arguments,
            _ => serde_json::Map::new(),
        };
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        let result = match self.service.peer().call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => result,
            Ok(_) => return Err(Fault::new(code::INTERNAL, format!("the host answered {tool} with something else than a result"))),
            Err(ServiceError::McpError(error)) => return Err(Fault::new(code::INTERNAL, format!("{tool}: {}", error.message))),
            Err(error) => return Err(unreachable(format!("the connection to the host broke: {error}"))),
        };
        let value = result.structured_content.unwrap_or_default();
        if result.is_error == Some(true) {
            return Err(
                serde_json::from_value(value).unwrap_or_else(|_| Fault::new(code::INTERNAL, format!("{tool} failed without a reason")))
            );
        }
        Ok(value)
    }

    /// Ends the connection; runs go on.
    pub async fn close(mut self) {
        // What is not closed in time is closed by the end of this process.
        let _ = self.service.close_with_timeout(CLOSE_LIMIT).await;
    }
}
