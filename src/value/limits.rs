//! How deep and how large a value may be, and the running count against it.

use super::ValueError;

/// How deep and how large a value may be.
///
/// Depth counts maps and lists inside one another: a scalar has depth 0, `[]` has depth 1. Nodes count every map, list and scalar,
/// the outermost included; keys do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maps and lists inside one another. At most 255, so that no reader can be told to overflow its stack.
    pub depth: u8,
    /// Maps, lists and scalars altogether.
    pub nodes: u32,
}

/// What is left of the [`Limits`] while a value is read or written.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    depth: u32,
    nodes_left: u32,
    exceeded: Option<Exceeded>,
}

/// Which limit was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    Depth,
    Nodes,
}

impl Limits {
    /// For event data and metadata, and the most that [`codec`](super::codec) writes: 64 deep, 65,536 nodes. Deeper than any
    /// program's data is by intent, and a decoded value of that many nodes is at most about 5 MB beside its text.
    pub const DEFAULT: Self = Self {
        depth: 64,
        nodes: 65_536,
    };

    /// For configuration: 20 deep, since every level is a level of somebody's settings path.
    pub const CONFIG: Self = Self {
        depth: 20,
        nodes: 65_536,
    };

    pub(super) fn error(self, exceeded: Exceeded) -> ValueError {
        match exceeded {
            Exceeded::Depth => ValueError::TooDeep { limit: self.depth },
            Exceeded::Nodes => ValueError::TooManyNodes { limit: self.nodes },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            depth: 0,
            nodes_left: limits.nodes,
            exceeded: None,
        }
    }

    /// Pays for `count` nodes. A container that states its length pays for its items before it makes room for them.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<(), Exceeded> {
        let left = u32::try_from(count)
            .ok()
            .and_then(|count| self.nodes_left.checked_sub(count));
        match left {
            Some(left) => {
                self.nodes_left = left;
                Ok(())
            }
            None => Err(self.refuse(Exceeded::Nodes)),
        }
    }

    /// Goes one level down.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Exceeded> {
        self.descend();
        self.check_depth()
    }

    /// Goes one level down without looking at the limit; [`Budget::check_depth`] looks later.
    pub(super) fn descend(&mut self) {
        self.depth += 1;
    }

    #[inline]
    pub(super) fn check_depth(&mut self) -> Result<(), Exceeded> {
        if self.depth > u32::from(self.limits.depth) {
            return Err(self.refuse(Exceeded::Depth));
        }
        Ok(())
    }

    /// Comes back up one level.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// The error to show when reading failed because of the limits.
    pub(super) fn error(&self) -> Option<ValueError> {
        self.exceeded.map(|exceeded| self.limits.error(exceeded))
    }

    #[cold]
    fn refuse(&mut self, exceeded: Exceeded) -> Exceeded {
        self.exceeded = Some(exceeded);
        exceeded
    }
}
