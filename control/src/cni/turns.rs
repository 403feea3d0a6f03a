//! One request at a time for each interface.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::owner::Owner;

/// Who is being attached or detached.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Owner, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Whose requests are in work or wait.
    pub(crate) fn busy(&self) -> Vec<Owner> {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.iter().filter(|(_, turn)| Arc::strong_count(turn) > 1).map(|(owner, _)| owner.clone()).collect()
    }

    /// Waits until no other request of `owner` is going on; the next one waits for the returned guard.
    pub(crate) async fn take(&self, owner: &Owner) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(owner.clone()).or_default())
        };
        turn.lock_owned().await
    }
}
