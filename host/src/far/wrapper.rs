use crate::id::RunId;
use crate::policy::command::FarCommand;
#[derive(Debug)]
pub struct Start { pub command: FarCommand, pub input: u64, pub link_s: u32 }
#[derive(Debug)]
pub enum Mode { Run(Start), Detach(Start), Attach { stdout: u64, stderr: u64, link_s: u32 }, End { grace_s: u32 } }
#[derive(Debug, thiserror::Error)]
#[error("too long")]
pub struct TooLong;
pub fn command_line(_: RunId, _: &Mode) -> Result<String, TooLong> { Err(TooLong) }
