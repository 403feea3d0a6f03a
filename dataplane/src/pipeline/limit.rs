//! Bandwidth limits of pods: what a pod sends and what it receives, each by a token bucket of its own.
//!
//! Last before the rewrite, as a queue would be: only what would leave is counted, with all bytes of its frame as it came.

use super::Context;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::tables::routes::Out;

/// Ends what is above a limit.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    if !cx.tables.ports.limited {
        return;
    }
    for packet in burst.iter_mut() {
        if let Verdict::Forward(out) = packet.verdict
            && let Some(reason) = above(packet, out, cx)
        {
            packet.verdict = Verdict::Drop(reason);
        }
    }
}

fn above(packet: &Packet, out: Out, cx: &Context<'_>) -> Option<DropReason> {
    let (bytes, now) = (packet.frame.len(), cx.state.clock);
    let sender = cx.tables.ports.get(packet.port).and_then(|pod| pod.egress.as_ref());
    if sender.is_some_and(|bucket| !bucket.take(bytes, now)) {
        return Some(DropReason::EgressLimit);
    }
    let Out::Pod(receiver) = out else { return None };
    let receiver = cx.tables.ports.get(receiver).and_then(|pod| pod.ingress.as_ref());
    receiver.is_some_and(|bucket| !bucket.take(bytes, now)).then_some(DropReason::IngressLimit)
}
