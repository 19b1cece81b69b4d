//! How all of a tree is looked at, piece by piece, and who was found stuck.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Stuck, TreeNode};

/// How far a walk through a tree has come: the keys of those on the way to the next one.
#[derive(Debug, Default)]
pub(crate) struct Cursor(pub(super) Vec<u64>);

impl TreeNode {
    /// Shows at most `most` children to `look`, going on where `cursor` was left; it begins anew after the last one.
    pub(crate) fn each_from(
        self: &Arc<Self>,
        cursor: &mut Cursor,
        most: usize,
        look: &mut impl FnMut(&Arc<Self>),
    ) {
        let from = std::mem::take(&mut cursor.0);
        let mut walk = WalkOn {
            left: most,
            path: Vec::new(),
            look,
        };
        if !walk.through(self, &from) {
            cursor.0 = walk.path;
        }
    }
}

/// A walk that ends after some steps.
struct WalkOn<'a, F> {
    left: usize,
    path: Vec<u64>,
    look: &'a mut F,
}

impl<F: FnMut(&Arc<TreeNode>)> WalkOn<'_, F> {
    /// Children are taken out of the lock by this many, so that no supervisor waits for long.
    const BATCH: usize = 256;

    /// Goes on at `from` below this one; `false` when it has to end here.
    fn through(&mut self, node: &Arc<TreeNode>, from: &[u64]) -> bool {
        if from.is_empty() {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            (self.look)(node);
        }
        let (mut next, rest) = match from.split_first() {
            None => (0, &[][..]),
            Some((first, rest)) => (*first, rest),
        };
        let resumed = next;
        loop {
            let batch: Vec<_> = {
                let children = node.children.lock();
                let on = children.range(next..).take(Self::BATCH);
                on.map(|(key, child)| (*key, Arc::clone(child))).collect()
            };
            let Some((last, _)) = batch.last() else {
                return true;
            };
            next = last.saturating_add(1);
            for (key, child) in batch {
                self.path.push(key);
                let below = if key == resumed { rest } else { &[] };
                if !self.through(&child, below) {
                    return false;
                }
                self.path.pop();
            }
        }
    }
}

/// The children of a tree that its sampler found stuck.
#[derive(Debug, Default)]
pub(crate) struct StuckOnes(Mutex<Vec<Weak<TreeNode>>>);

impl StuckOnes {
    /// How many are remembered: where so many are stuck, more names do not tell more.
    const MOST: usize = 100;

    pub(crate) fn add(&self, node: &Arc<TreeNode>) {
        let mut all = self.0.lock();
        all.retain(|other| other.upgrade().is_some_and(|other| other.stuck().is_some()));
        if all.len() < Self::MOST {
            all.push(Arc::downgrade(node));
        }
    }

    /// Those that are stuck now.
    pub(crate) fn list(&self) -> Vec<Stuck> {
        let all = self.0.lock();
        let mut stuck: Vec<Stuck> = all
            .iter()
            .filter_map(|node| node.upgrade()?.stuck())
            .collect();
        stuck.sort_by(|a, b| a.path.cmp(&b.path));
        stuck.dedup_by(|a, b| a.path == b.path);
        stuck
    }
}
