//! `get_event_artifact`

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::request::ArtifactRequest;
use crate::run::view::Slice;

/// Reads a large field.
pub struct GetEventArtifact;

impl Tool<Host> for GetEventArtifact {
    const NAME: &'static str = "get_event_artifact";
    const TITLE: &'static str = "Read a large field of an event";
    const DESCRIPTION: &'static str = "Read a value that was too large for its event (long output, a whole file, a long result), piece by piece. Use it when an event of \
        poll_events shows a preview with an artifact reference, or get_run shows a cut result; small fields are in the event itself. \
        Name the field by run_id, seq and JSON pointer as the reference gives them. Gives 8192 bytes from offset unless you give limit (at most \
        262144); next_offset begins the next piece and is null at the end. A character is never cut in two: the slice begins and ends at one. \
        Bytes that are no text come as base64. sha256 and total_bytes are of the whole. Answers at once and changes nothing; \
        artifacts are kept as long as their run.";
    const HINTS: Hints = Hints::LOOK;
    type Request = ArtifactRequest;
    type Answer = Slice;

    async fn call(call: &Call<Host>, request: ArtifactRequest) -> Result<Slice, Fault> {
        call.host.manager.artifact(request).await
    }
}
