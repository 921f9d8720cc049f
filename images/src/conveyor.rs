//! Pieces of many sources from many threads to one writer, in the order of the sources, within a budget of memory.
//!
//! The source that the writer is at may always go on; those after it wait when together they hold more than the budget.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::entry::Entry;
use crate::error::{Class, Error, Result};

/// What all sources together may hold ready, bytes.
const BUDGET: usize = 48 << 20;

/// What the source that is being written may be ahead, bytes.
const AHEAD: usize = 8 << 20;

/// Pieces are handed over in lots of about this many bytes, so that small files do not cost a wake-up each.
const LOT: usize = 128 << 10;

/// A piece of a source.
#[derive(Debug)]
pub enum Piece {
    /// An input's time, seconds since 1970.
    Time(u64),
    /// An entry; a file's content follows.
    Entry(Entry),
    /// A part of the content.
    Content(Vec<u8>),
}

impl Piece {
    /// Bytes of content.
    pub fn bytes(&self) -> u64 {
        match self {
            Piece::Content(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Piece::Content(bytes) => bytes.len() + 64,
            Piece::Entry(entry) => entry.path.len() + 256,
            Piece::Time(_) => 16,
        }
    }
}

/// Sources on their way to the writer.
pub struct Conveyor {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Vec<Lane>,
    next: usize,
    head: usize,
    held: usize,
    stopped: bool,
}

#[derive(Default)]
struct Lane {
    filling: Vec<Piece>,
    filling_weight: usize,
    ready: VecDeque<Piece>,
    held: usize,
    end: Option<Result<()>>,
}

impl Conveyor {
    /// For so many sources.
    pub fn new(sources: usize) -> Conveyor {
        let lanes = (0..sources).map(|_| Lane::default()).collect();
        Conveyor { state: Mutex::new(State { lanes, ..State::default() }), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next source that no thread has taken.
    pub fn next_source(&self) -> Option<usize> {
        let mut state = self.state();
        let index = state.next;
        state.next += 1;
        (index < state.lanes.len() && !state.stopped).then_some(index)
    }

    /// Puts a piece of source `index` on; waits while there is no room.
    pub fn push(&self, index: usize, piece: Piece) -> Result<()> {
        let mut state = self.state();
        let weight = piece.weight();
        let lane = &mut state.lanes[index];
        lane.filling.push(piece);
        lane.filling_weight += weight;
        if lane.filling_weight < LOT {
            return if state.stopped { Err(stopped()) } else { Ok(()) };
        }
        while !state.stopped && if state.head == index { state.lanes[index].held > AHEAD } else { state.held > BUDGET } {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return Err(stopped());
        }
        hand_over(&mut state, index);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Says that source `index` has ended, well or not.
    pub fn end(&self, index: usize, result: Result<()>) {
        let mut state = self.state();
        hand_over(&mut state, index);
        state.lanes[index].end = Some(result);
        drop(state);
        self.changed.notify_all();
    }

    /// The next piece of source `index`, `None` at its end. Sources are taken in order.
    pub fn pop(&self, index: usize) -> Result<Option<Piece>> {
        let mut state = self.state();
        if state.head != index {
            state.head = index;
            self.changed.notify_all();
        }
        loop {
            if let Some(piece) = state.lanes[index].ready.pop_front() {
                let weight = piece.weight();
                state.lanes[index].held -= weight;
                state.held -= weight;
                // Producers wait at these marks; waking them more often would only cost.
                let wake = state.lanes[index].held < AHEAD / 2 || state.held < BUDGET;
                drop(state);
                if wake {
                    self.changed.notify_all();
                }
                return Ok(Some(piece));
            }
            if let Some(end) = state.lanes[index].end.take() {
                return end.map(|()| None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets everybody go: the writer has failed.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }
}

fn hand_over(state: &mut State, index: usize) {
    let lane = &mut state.lanes[index];
    let weight = std::mem::take(&mut lane.filling_weight);
    let filled = std::mem::take(&mut lane.filling);
    lane.ready.extend(filled);
    lane.held += weight;
    state.held += weight;
}

fn stopped() -> Error {
    Error::new(Class::Build, "stopped, because another source failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_the_order_of_sources_whoever_is_faster() {
        let conveyor = Conveyor::new(8);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(index) = conveyor.next_source() {
                        let result = (0..50).try_for_each(|n| conveyor.push(index, Piece::Content(vec![n; (index + 1) << 16])));
                        conveyor.end(index, result);
                    }
                });
            }
            for index in 0..8 {
                for n in 0..50 {
                    match conveyor.pop(index).expect("no failure") {
                        Some(Piece::Content(bytes)) => assert_eq!((bytes[0], bytes.len()), (n, (index + 1) << 16)),
                        other => panic!("expected content, found {other:?}"),
                    }
                }
                assert!(conveyor.pop(index).expect("no failure").is_none());
            }
        });
    }

    #[test]
    fn a_failed_writer_lets_the_threads_go() {
        let conveyor = Conveyor::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(index) = conveyor.next_source() {
                        let endless = std::iter::repeat(()).try_for_each(|()| conveyor.push(index, Piece::Content(vec![0; 1 << 20])));
                        conveyor.end(index, endless);
                    }
                });
            }
            assert!(conveyor.pop(0).expect("no failure").is_some());
            conveyor.stop();
        });
    }

    #[test]
    fn a_failed_source_is_the_writers_error() {
        let conveyor = Conveyor::new(1);
        assert_eq!(conveyor.next_source(), Some(0));
        conveyor.push(0, Piece::Time(1)).expect("room");
        conveyor.end(0, Err(Error::new(Class::Build, "truncated")));
        assert!(conveyor.pop(0).expect("the piece before it").is_some());
        assert_eq!(conveyor.pop(0).expect_err("the failure").message(), "truncated");
    }
}
