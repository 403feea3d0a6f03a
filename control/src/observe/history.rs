//! Ten minutes of points and the last events, as JSON that is made once however many read it.
//!
//! Memory is bounded: [`POINTS`] points, each at most [`super::point`]'s bounds long, and [`EVENTS`] events.

use std::collections::VecDeque;
use std::sync::Arc;

use super::events::Event;
use super::point::Point;

/// Ten minutes, one a second.
pub const POINTS: usize = 600;
/// Events that are kept, however old.
pub const EVENTS: usize = 200;

/// The newest last.
#[derive(Debug, Default)]
pub struct History {
    sequence: u64,
    points: VecDeque<(u64, Arc<str>)>,
    events: VecDeque<(u64, Arc<str>)>,
}

/// What came after some snapshot: JSON objects.
#[derive(Debug, Default)]
pub struct Since {
    /// [`Point`]s, oldest first.
    pub points: Vec<Arc<str>>,
    /// [`Event`]s, oldest first.
    pub events: Vec<Arc<str>>,
}

impl History {
    /// Adds what one look saw; gives its number, from 1.
    pub fn push(&mut self, point: &Point, events: &[Event]) -> u64 {
        self.sequence += 1;
        keep(&mut self.points, POINTS, self.sequence, point);
        for event in events {
            keep(&mut self.events, EVENTS, self.sequence, event);
        }
        self.sequence
    }

    /// What came after snapshot `sequence`. A number from an earlier run of the agent gives everything.
    pub fn since(&self, sequence: u64) -> Since {
        let sequence = if sequence > self.sequence { 0 } else { sequence };
        let after = |list: &VecDeque<(u64, Arc<str>)>| {
            let from = list.partition_point(|(number, _)| *number <= sequence);
            list.range(from..).map(|(_, json)| Arc::clone(json)).collect()
        };
        Since { points: after(&self.points), events: after(&self.events) }
    }
}

fn keep(list: &mut VecDeque<(u64, Arc<str>)>, limit: usize, sequence: u64, item: &impl serde::Serialize) {
    // Plain structs of numbers and strings always have a JSON form.
    let Ok(json) = serde_json::to_string(item) else { return };
    if list.len() == limit {
        list.pop_front();
    }
    list.push_back((sequence, json.into()));
}
