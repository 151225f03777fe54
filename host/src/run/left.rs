//! What runs end as that nobody drives any more: an earlier host left them, or this one broke down. It is `lost` but where nothing
//! had begun: how it went on is not known, and the proof says what is known of its processes.

use super::ladder::{enter, seen};
use super::receipt::{Cause, ComponentEnd, FarEnd, Proof, Receipt};
use super::status::{Completion, Ending, Status};
use crate::fault::{Fault, code};
use crate::tree::Left;

/// What a run that was left behind by an earlier host ends as.
#[must_use]
pub fn left_behind(status: Status, left: Left) -> Ending {
    let mut receipt = Receipt::begun("host", Cause::Recovery, Some("the host ended while the run was alive".into()));
    receipt.component = Some(ComponentEnd::Dropped);
    if status == Status::Queued {
        receipt.component = Some(ComponentEnd::NeverStarted);
        receipt.proof = Some(Proof::NoProcesses);
        let error = Fault::new(code::HOST_LOST, "the host ended while the run waited for its turn; nothing of it was started").retryable();
        return Ending::Failed { error: error.hint("spawn it again"), partial: Completion::default(), receipt };
    }
    take(&mut receipt, left);
    let error = Fault::new(code::HOST_LOST, "the host ended while the run was alive; how it went on is not known")
        .hint("look at what it did; continue_run carries a session on where the backend can");
    Ending::Lost { error, partial: Completion::default(), receipt: Some(receipt) }
}

/// What a run ends as that an earlier host left behind with a checkpoint, and that cannot be taken up any more.
#[must_use]
pub fn not_taken_up(fault: Fault, left: Left) -> Ending {
    let mut receipt = Receipt::begun("host", Cause::Recovery, Some("the host ended while the run was alive".into()));
    receipt.component = Some(ComponentEnd::Dropped);
    take(&mut receipt, left);
    let message = format!("after a restart of the host the run cannot be taken up again: {}", fault.message);
    let error = Fault { message, retryable: false, ..fault };
    Ending::Lost { error, partial: Completion::default(), receipt: Some(receipt) }
}

/// What a run ends as when the host itself fails to drive it.
#[must_use]
pub fn broken_down(left: Left) -> Ending {
    let mut receipt = Receipt::begun("host", Cause::Defect, Some("the host broke down while it drove the run".into()));
    receipt.component = Some(ComponentEnd::Dropped);
    take(&mut receipt, left);
    let error = Fault::new(code::INTERNAL, "the host broke down while it drove the run; this is a defect of falconer")
        .hint("the daemon's log says where; the other runs are not touched");
    Ending::Lost { error, partial: Completion::default(), receipt: Some(receipt) }
}

/// The same of a run at a target: what became of it there is not known either.
#[must_use]
pub fn at_a_target(ending: Ending) -> Ending {
    let Ending::Lost { error, partial, receipt: Some(mut receipt) } = ending else { return ending };
    let detail = Some("the host ended; the far end ends what is not detached by itself, and cancel_run looks".to_owned());
    receipt.far_end.get_or_insert(FarEnd { state: "unknown".to_owned(), detail });
    Ending::Lost { error, partial, receipt: Some(receipt) }
}

fn take(receipt: &mut Receipt, left: Left) {
    receipt.killed = left.killed.into_iter().map(seen).collect();
    receipt.killed_total = left.killed_total;
    enter(receipt, left.verdict);
}
