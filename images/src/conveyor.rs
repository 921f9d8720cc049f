//! Pieces of many sources from many threads to one writer, in the order of the sources, within a budget of memory.
//!
//! The source that the writer is at may always go on; those after it wait when together they hold more than the budget.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::entry::Entry;
use crate::error::{Class, Error, Result};

/// What all sources together may hold ready, bytes.
const BUDGET: usize = 64 << 20;

/// Packed sizes, bytes, of sources that are worth an early start: large enough to be waited for at the end, and small enough to
/// find room unpacked, at about 1:3, before their turn.
const LARGE: std::ops::RangeInclusive<u64> = 2 << 20..=(BUDGET / 3) as u64;

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
    head: usize,
    held: usize,
    stopped: bool,
}

#[derive(Default)]
struct Lane {
    packed: u64,
    taken: bool,
    filling: Vec<Piece>,
    filling_weight: usize,
    ready: VecDeque<Piece>,
    held: usize,
    end: Option<Result<()>>,
}

/// A source that one thread has taken. However the thread leaves it, by a panic as well, the source ends: else the writer would
/// wait for it for ever.
pub struct Taken<'a> {
    conveyor: &'a Conveyor,
    /// Which source.
    pub index: usize,
    ended: bool,
}

impl Taken<'_> {
    /// Puts a piece on; waits while there is no room.
    pub fn push(&self, piece: Piece) -> Result<()> {
        self.conveyor.push(self.index, piece)
    }

    /// Says that the source has ended, well or not.
    pub fn end(mut self, result: Result<()>) {
        self.ended = true;
        self.conveyor.end(self.index, result);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.conveyor.end(self.index, Err(Error::new(Class::Build, "its thread ended before it did")));
        }
    }
}

impl Conveyor {
    /// For sources of these packed sizes, bytes.
    pub fn new(packed: impl IntoIterator<Item = u64>) -> Conveyor {
        let lanes = packed.into_iter().map(|packed| Lane { packed, ..Lane::default() }).collect();
        Conveyor { state: Mutex::new(State { lanes, ..State::default() }), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next source that no thread has taken.
    ///
    /// One thread at least has to take them all by this: then the source that the writer is at is always under way, and
    /// threads that wait for room are always let go.
    pub fn next_source(&self) -> Option<Taken<'_>> {
        self.take(|lanes| lanes.iter().position(|lane| !lane.taken))
    }

    /// The largest source that is worth an early start, else the next one: so that a large one is not what all wait for at
    /// the end.
    pub fn largest_source(&self) -> Option<Taken<'_>> {
        self.take(|lanes| {
            let free = || lanes.iter().enumerate().filter(|(_, lane)| !lane.taken);
            let large =
                free().filter(|(_, lane)| LARGE.contains(&lane.packed)).max_by_key(|(index, lane)| (lane.packed, usize::MAX - index));
            large.or_else(|| free().next()).map(|(index, _)| index)
        })
    }

    fn take(&self, choose: impl FnOnce(&[Lane]) -> Option<usize>) -> Option<Taken<'_>> {
        let mut state = self.state();
        let index = if state.stopped { None } else { choose(&state.lanes) }?;
        state.lanes[index].taken = true;
        Some(Taken { conveyor: self, index, ended: false })
    }

    fn push(&self, index: usize, piece: Piece) -> Result<()> {
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

    fn end(&self, index: usize, result: Result<()>) {
        let mut state = self.state();
        hand_over(&mut state, index);
        state.lanes[index].end = Some(result);
        drop(state);
        self.changed.notify_all();
    }

    /// The next piece of source `index`, `None` at its end. Sources are taken in order.
    ///
    /// # Errors
    /// Why the source failed; and, as no thread takes a source any more then, when the conveyor has been stopped.
    pub fn pop(&self, index: usize) -> Result<Option<Piece>> {
        let mut state = self.state();
        if state.head != index {
            state.head = index;
            self.changed.notify_all();
        }
        loop {
            if state.stopped {
                return Err(stopped());
            }
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

    /// Lets everybody go, the writer too: it has failed, or nobody needs what it writes.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    /// Stops the conveyor when it is dropped: so that the threads are let go however the writer leaves, by a panic as well.
    pub fn stopping(&self) -> Stopping<'_> {
        Stopping(self)
    }
}

/// Stops a [`Conveyor`] when it is dropped.
pub struct Stopping<'a>(&'a Conveyor);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop();
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
        let conveyor = Conveyor::new([3 << 20, 0, 4 << 20, 0, 9 << 30, 0, 5 << 20, 1]);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let conveyor = &conveyor;
                scope.spawn(move || {
                    while let Some(source) = if number == 0 { conveyor.next_source() } else { conveyor.largest_source() } {
                        let result = (0..50).try_for_each(|n| source.push(Piece::Content(vec![n; (source.index + 1) << 16])));
                        source.end(result);
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
    fn what_is_large_starts_early_unless_it_would_not_fit() {
        let conveyor = Conveyor::new([0, 3 << 20, 9 << 30, 4 << 20, 3 << 20]);
        let order: Vec<usize> = std::iter::from_fn(|| conveyor.largest_source()).map(|source| source.index).collect();
        assert_eq!(order, [3, 1, 4, 0, 2]);
    }

    #[test]
    fn sources_that_together_hold_far_more_than_the_budget_still_arrive() {
        let conveyor = Conveyor::new([0, 3 << 20, 0, 3 << 20, 3 << 20]);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let conveyor = &conveyor;
                scope.spawn(move || {
                    while let Some(source) = if number == 0 { conveyor.next_source() } else { conveyor.largest_source() } {
                        let result = (0..40).try_for_each(|_| source.push(Piece::Content(vec![0; 1 << 20])));
                        source.end(result);
                    }
                });
            }
            for index in 0..5 {
                let pieces = std::iter::from_fn(|| conveyor.pop(index).expect("no failure")).count();
                assert_eq!(pieces, 40);
            }
        });
    }

    #[test]
    fn a_failed_writer_lets_the_threads_go() {
        let conveyor = Conveyor::new([0, 0]);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(source) = conveyor.next_source() {
                        let endless = std::iter::repeat(()).try_for_each(|()| source.push(Piece::Content(vec![0; 1 << 20])));
                        source.end(endless);
                    }
                });
            }
            assert!(conveyor.pop(0).expect("no failure").is_some());
            conveyor.stop();
        });
    }

    #[test]
    fn a_writer_that_is_stopped_from_outside_waits_for_no_source_whether_or_not_a_thread_took_it() {
        let conveyor = Conveyor::new([0, 0]);
        let taken = conveyor.next_source().expect("one");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| conveyor.pop(0).map(drop));
            drop(conveyor.stopping());
            let error = writer.join().expect("no panic").expect_err("stopped");
            assert_eq!(error.message(), "stopped, because another source failed");
        });
        assert!(conveyor.next_source().is_none(), "nobody begins another one");
        // Without a look at the stop, this would wait for ever.
        assert!(conveyor.pop(1).is_err());
        taken.end(Ok(()));
    }

    #[test]
    fn a_failed_source_is_the_writers_error() {
        let conveyor = Conveyor::new([0]);
        let source = conveyor.next_source().expect("one");
        source.push(Piece::Time(1)).expect("room");
        source.end(Err(Error::new(Class::Build, "truncated")));
        assert!(conveyor.pop(0).expect("the piece before it").is_some());
        assert_eq!(conveyor.pop(0).expect_err("the failure").message(), "truncated");
    }

    #[test]
    fn a_source_whose_thread_panics_ends_with_an_error() {
        let conveyor = Conveyor::new([0, 0]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let source = conveyor.next_source().expect("one");
                source.push(Piece::Time(1)).expect("room");
                panic!("a decoder's mistake");
            });
            assert!(thread.join().is_err());
        });
        // Without the guard, this would wait for ever.
        assert!(conveyor.pop(0).expect("the piece before it").is_some());
        assert_eq!(conveyor.pop(0).expect_err("the failure").message(), "its thread ended before it did");
        assert_eq!(conveyor.next_source().expect("the other one goes on").index, 1);
    }
}
