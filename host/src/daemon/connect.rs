//! (in work)
#![expect(missing_docs, reason = "in work")]
#![expect(clippy::unused_async, reason = "in work")]
use crate::cli::Globals;
use crate::fault::Fault;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

pub async fn open(_globals: &Globals) -> Result<(OwnedReadHalf, OwnedWriteHalf), Fault> {
    unimplemented!()
}
