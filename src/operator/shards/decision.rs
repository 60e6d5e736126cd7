//! The decision of a replica which shards to take and which to give up. Pure: no clock, no I/O.
//!
//! Every replica decides for itself, from the same Leases. With M live replicas, each should have
//! N/M of N shards, and the remainder goes to those that have most: so few shards move, and the
//! decision changes nothing where all shares are fair already.

use std::cmp::Reverse;

use crate::shard::Shard;

/// The lock on the layout, as one replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Nobody holds it, or the holder's term is over.
    Free,
    /// Replicas with the same number of shards hold it.
    Ours,
    /// Replicas with another number of shards hold it, or one without shards.
    Other,
}

/// A shard, as one replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody holds it, or the holder's term is over.
    Free,
    /// Held by this replica.
    Mine,
    /// Held by this replica until its jobs have ended.
    Leaving,
    /// Held by this other replica.
    Other(String),
}

/// The Leases, as one replica sees them.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Identity of this replica.
    pub(super) me: String,
    pub(super) lock: Lock,
    /// Identities of the live replicas.
    pub(super) members: Vec<String>,
    /// The shards, by number.
    pub(super) shards: Vec<State>,
}

/// The changes that a replica should make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Free shards to take.
    pub(super) take: Vec<Shard>,
    /// Own shards to give up.
    pub(super) give_up: Vec<Shard>,
}

impl View {
    /// Decides the changes.
    pub(super) fn decide(&self) -> Decision {
        let own = self.numbers(|state| *state == State::Mine);
        if self.lock == Lock::Other {
            return Decision { take: Vec::new(), give_up: own };
        }
        let shares = self.shares();
        let Some((_, share)) = shares.iter().find(|(member, _)| **member == self.me) else {
            return Decision::default();
        };

        // Shards that leave are given up already.
        let surplus = self.held_by(&self.me).saturating_sub(*share);
        let leaving = self.numbers(|state| *state == State::Leaving).len();
        let surplus = surplus.saturating_sub(leaving).min(own.len());
        let give_up = own[own.len() - surplus..].to_vec();
        Decision { take: self.free_for_me(&shares), give_up }
    }

    /// Returns the share of each live replica.
    fn shares(&self) -> Vec<(&String, usize)> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|member| (Reverse(self.held_by(member)), *member));
        members.dedup();

        let number = members.len().max(1);
        let (each, rest) = (self.shards.len() / number, self.shards.len() % number);
        let share = |(rank, member)| (member, each + usize::from(rank < rest));
        members.into_iter().enumerate().map(share).collect()
    }

    /// Returns the free shards that this replica should take. Every replica deals the free shards in
    /// the same way, so that two seldom want the same one.
    fn free_for_me(&self, shares: &[(&String, usize)]) -> Vec<Shard> {
        let mut free = self.numbers(|state| *state == State::Free).into_iter();
        for (member, share) in shares {
            let lacking = share.saturating_sub(self.held_by(member));
            let dealt = free.by_ref().take(lacking);
            if **member == self.me {
                return dealt.collect();
            }
            dealt.for_each(drop);
        }
        Vec::new()
    }

    /// Returns the number of shards of a replica.
    fn held_by(&self, member: &str) -> usize {
        let is_held = |state: &&State| match state {
            State::Free => false,
            State::Mine | State::Leaving => member == self.me,
            State::Other(holder) => holder == member,
        };
        self.shards.iter().filter(is_held).count()
    }

    /// Returns the numbers of the shards in these states, in order.
    fn numbers(&self, is_one: impl Fn(&State) -> bool) -> Vec<Shard> {
        (0..).zip(&self.shards).filter(|(_, state)| is_one(state)).map(|(shard, _)| shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of replica `me`. In `shards`, `.` is free, `-` is leaving, and a letter is the holder.
    fn view(me: char, lock: Lock, members: &str, shards: &str) -> View {
        let state = |holder| match holder {
            '.' => State::Free,
            '-' => State::Leaving,
            holder if holder == me => State::Mine,
            other => State::Other(other.to_string()),
        };
        View {
            me: me.to_string(),
            lock,
            members: members.chars().map(|member| member.to_string()).collect(),
            shards: shards.chars().map(state).collect(),
        }
    }

    #[test]
    fn a_replica_takes_and_gives_up_only_what_makes_the_shares_fair() {
        for (members, shards, take, give_up) in [
            // Alone.
            ("a", "....", vec![0, 1, 2, 3], vec![]),
            ("a", "aaaa", vec![], vec![]),
            // The remainder stays where it is.
            ("ab", "aab", vec![], vec![]),
            ("ab", "abb", vec![], vec![]),
            ("abc", "aabbc", vec![], vec![]),
            // Another replica comes, and leaves.
            ("ab", "aaaa", vec![], vec![2, 3]),
            ("ab", "aa--", vec![], vec![]),
            ("ab", "aaa-", vec![], vec![2]),
            ("ab", "aaa", vec![], vec![2]),
            ("ab", "aa..", vec![], vec![]),
            ("ab", ".bbb", vec![0], vec![]),
            ("a", "aa..", vec![2, 3], vec![]),
            // Two that lack shards take different ones.
            ("abc", "cc....", vec![2, 3], vec![]),
            ("abc", "bb....", vec![2, 3], vec![]),
            // More replicas than shards.
            ("abcd", "bc", vec![], vec![]),
            ("abcd", "b.", vec![1], vec![]),
            // A holder that counts as dead keeps its shard until the term of the shard is over.
            ("a", "abb.", vec![3], vec![]),
            // This replica is not registered yet, or no longer.
            ("", "....", vec![], vec![]),
            ("b", "aa..", vec![], vec![]),
        ] {
            let decision = view('a', Lock::Ours, members, shards).decide();
            assert_eq!(decision, Decision { take, give_up }, "{members} {shards}");
            assert_eq!(view('a', Lock::Free, members, shards).decide(), decision);
        }
    }

    #[test]
    fn while_another_layout_is_locked_nothing_is_taken_and_everything_is_given_up() {
        let decision = view('a', Lock::Other, "ab", "aa-..b").decide();
        assert_eq!(decision, Decision { take: vec![], give_up: vec![0, 1] });
    }

    /// Replicas that decide in turn, and whose view is current.
    #[test]
    fn any_replicas_and_shards_settle_with_fair_shares_and_few_moves() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let shards = rng.usize(1..12);
            let members: Vec<_> = "abcdef".chars().take(rng.usize(1..7)).collect();
            let mut holders: Vec<_> = (0..shards)
                .map(|_| if rng.bool() { '.' } else { members[rng.usize(..members.len())] })
                .collect();
            let before = holders.clone();

            for _ in 0..shards + members.len() {
                for me in &members {
                    let (names, text) =
                        (members.iter().collect::<String>(), holders.iter().collect::<String>());
                    let Decision { take, give_up } = view(*me, Lock::Ours, &names, &text).decide();
                    give_up.iter().for_each(|shard| holders[usize::from(*shard)] = '.');
                    take.iter().for_each(|shard| holders[usize::from(*shard)] = *me);
                }
            }

            let count = |holders: &[char], member| holders.iter().filter(|h| **h == member).count();
            let counts: Vec<_> = members.iter().map(|member| count(&holders, *member)).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(!holders.contains(&'.'), "{before:?} -> {holders:?}");
            assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1, "{before:?} -> {holders:?}");
            let moved = before.iter().zip(&holders).filter(|(b, h)| **b != '.' && b != h).count();
            let floor = shards / members.len();
            let surplus = members.iter().map(|m| count(&before, *m).saturating_sub(floor)).sum();
            assert!(moved <= surplus, "{before:?} -> {holders:?}");
        }
    }
}
