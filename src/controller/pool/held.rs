//! The place of a job that was started: in the queue of control, then in that of copies, and with
//! many bytes in that of long copies.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{LONG_COPY, Pool, Table};
use crate::controller::queue::{Id, Queue, Wait, Waiting};
use crate::place::Place;
use crate::sync::Progress;
use crate::telemetry::{Place as Use, Ticket};

/// Wait after which a job steps aside. Most sources answer sooner, so most jobs keep their place to
/// the end, and few jobs have begun at any time.
const GRACE: Duration = Duration::from_millis(100);
/// The same for a job that copies, without any progress. Bytes come in bursts.
const COPY_GRACE: Duration = Duration::from_secs(1);

/// The place of a job that was started.
#[derive(Debug)]
pub(super) struct Held {
    id: Id,
    pool: Pool,
    progress: Progress,
    ticket: Ticket,
    /// Time of the change that the job carries out, until its first AWS call.
    changed: Mutex<Option<Instant>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kind: Kind,
    /// Parts of the job that wait.
    waits: usize,
    /// The host of the last wait.
    host: Option<String>,
    /// Time of the last change of `waits` or `count`.
    since: Instant,
    /// The progress at that time.
    count: u64,
    is_aside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Control,
    /// Without a place, until one is free for a copy.
    BeforeCopy,
    Copy,
    /// A copy without a place, but with room for its bytes.
    LongCopy,
}

impl Kind {
    const fn place(self) -> Use {
        match self {
            Self::Control => Use::Control,
            Self::BeforeCopy => Use::BeforeCopy,
            Self::Copy | Self::LongCopy => Use::Copy,
        }
    }

    fn queue(self, table: &mut Table) -> &mut Queue {
        match self {
            Self::Control | Self::BeforeCopy => &mut table.control,
            Self::Copy => &mut table.copies,
            Self::LongCopy => &mut table.long,
        }
    }
}

impl Held {
    pub(super) fn new(
        id: Id,
        pool: Pool,
        progress: Progress,
        ticket: Ticket,
        changed: Option<Instant>,
    ) -> Self {
        ticket.at(Use::Control);
        let state = State {
            kind: Kind::Control,
            waits: 0,
            host: None,
            since: Instant::now(),
            count: 0,
            is_aside: false,
        };
        let (changed, state) = (Mutex::new(changed), Mutex::new(state));
        Self { id, pool, progress, ticket, changed, state }
    }

    /// Gives the place back if the job has only waited for a while.
    pub(super) fn step_aside_if_it_waits(&self) {
        let mut state = self.state.lock();
        let grace = match state.kind {
            Kind::Control => GRACE,
            Kind::Copy | Kind::LongCopy => COPY_GRACE,
            Kind::BeforeCopy => return,
        };
        if state.waits == 0 || state.is_aside {
            return;
        }

        let count = self.progress.count();
        if count != state.count {
            (state.count, state.since) = (count, Instant::now());
        }
        if state.since.elapsed() >= grace {
            let wait = state.host.as_deref().map_or(Wait::RateLimit, Wait::Host);
            let mut table = self.pool.table.lock();
            if state.kind.queue(&mut table).step_aside(self.id, wait) {
                drop(table);
                state.is_aside = true;
                self.ticket.at(Use::Aside);
            }
        }
    }

    /// Takes the place back if the job had stepped aside, since a part of it goes on.
    fn go_on(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        let before = state.kind;
        change(&mut state);
        state.since = Instant::now();

        let was_aside = std::mem::take(&mut state.is_aside);
        if was_aside {
            let mut table = self.pool.table.lock();
            state.kind.queue(&mut table).take_back(self.id);
        }
        if was_aside || state.kind != before {
            self.ticket.at(state.kind.place());
        }
    }

    /// Leaves the place for control. Returns the receiver of the place for a copy; `None` if the job
    /// has one.
    fn leave_control(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        if state.kind != Kind::Control {
            return None;
        }
        let mut table = self.pool.table.lock();
        let work = table.control.work(self.id)?.clone();
        table.control.step_aside(self.id, Wait::OtherQueue);
        table.copies.add(self.id, work);
        Some(self.before_copy(&mut state, &mut table))
    }

    /// Leaves the place for copies if the copy is long. Returns the receiver of the room for its
    /// bytes; `None` if it may go on as it is.
    fn leave_copies(&self, bytes: u64) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        if bytes < LONG_COPY || !matches!(state.kind, Kind::Copy | Kind::LongCopy) {
            return None;
        }

        let mut table = self.pool.table.lock();
        let work = table.control.work(self.id)?.clone();
        table.copies.remove(self.id);
        table.long.remove(self.id);
        table.long.add(self.id, Waiting { bytes, ..work });
        Some(self.before_copy(&mut state, &mut table))
    }

    /// Waits without a place. Returns the receiver of the next one.
    fn before_copy(&self, state: &mut State, table: &mut Table) -> oneshot::Receiver<()> {
        state.kind = Kind::BeforeCopy;
        state.is_aside = false;
        self.ticket.at(Use::BeforeCopy);

        let (granted, is_granted) = oneshot::channel();
        table.about_to_copy.insert(self.id, granted);
        self.pool.changed.notify_one();
        is_granted
    }

    /// Waits until the place is granted.
    async fn granted(&self, mut is_granted: oneshot::Receiver<()>, kind: Kind) {
        /// Shorter than any timeout of a pass: the wait for a place is not a lack of progress.
        const ADVANCE_EVERY: Duration = Duration::from_secs(1);

        while tokio::time::timeout(ADVANCE_EVERY, &mut is_granted).await.is_err() {
            self.progress.advance(1);
        }
        self.go_on(|state| state.kind = kind);
    }
}

impl Place for Held {
    fn waits(&self, host: Option<&str>) {
        let mut state = self.state.lock();
        state.waits += 1;
        state.host = host.map(str::to_owned);
        state.since = Instant::now();
    }

    fn goes_on(&self) {
        self.go_on(|state| state.waits -= 1);
    }

    fn calls_aws(&self) {
        if let Some(changed) = self.changed.lock().take() {
            self.ticket.first_call(changed);
        }
    }

    fn copies(&self) -> BoxFuture<'_, ()> {
        async {
            let Some(is_granted) = self.leave_control() else { return };
            self.granted(is_granted, Kind::Copy).await;
        }
        .boxed()
    }

    fn transfers(&self, bytes: u64) -> BoxFuture<'_, ()> {
        async move {
            let Some(is_granted) = self.leave_copies(bytes) else { return };
            self.granted(is_granted, Kind::LongCopy).await;
        }
        .boxed()
    }
}
