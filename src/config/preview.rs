//! What a change would do and what it would break. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Change, Revision, UpdateError,
    record::Entry,
    state::{Action, CHANGES_MAX, Request, State, check_limits},
};
use crate::value::{Path, Value};

/// How many reasons against a change are told.
const BREAKS_MAX: usize = 32;
/// How many of its parts are looked at for more reasons: each one is tried by itself, in the time of all who change something.
const TRIED_MAX: usize = 256;

/// What a change would do, were it made now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preview {
    /// The revision that it was looked at against: expect it when applying.
    pub against: Revision,
    /// What readers would see otherwise than now, with secrets replaced. Where something breaks, what was asked for.
    pub changes: Vec<Change>,
    /// Those settings that would take effect at the next start.
    pub needs_restart: Vec<Path>,
    /// Why it would be refused: as much as can be told apart, and the first ones of many. Empty when it would be made.
    pub breaks: Vec<UpdateError>,
}

impl Preview {
    /// Whether the change would be made.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.breaks.is_empty()
    }
}

impl State {
    /// What the request would do. `past` as for [`State::decide`].
    pub(super) fn preview(
        &self,
        mut request: Request,
        past: impl FnOnce(Revision) -> Result<Vec<Arc<Entry>>, UpdateError>,
        now: Timestamp,
    ) -> Preview {
        if let Action::Edit(edit) = request.action {
            request.action = match edit(self) {
                Ok(writes) => Action::Set(writes),
                Err(error) => return self.broken(Vec::new(), vec![error]),
            };
        }
        let writes = match &request.action {
            // Of more than can be made, no part is looked at.
            Action::Set(writes) if writes.len() <= CHANGES_MAX => writes.clone(),
            _ => Vec::new(),
        };
        match self.decide(request, past, now) {
            Ok(step) => {
                let (changes, needs_restart) = self.changes_to(&step.next.document);
                Preview {
                    against: self.revision,
                    changes,
                    needs_restart,
                    breaks: Vec::new(),
                }
            }
            Err(first) => self.broken(self.asked(&writes), self.all_breaks(&writes, first)),
        }
    }

    fn broken(&self, changes: Vec<Change>, breaks: Vec<UpdateError>) -> Preview {
        Preview {
            against: self.revision,
            changes,
            needs_restart: Vec::new(),
            breaks,
        }
    }

    fn asked(&self, writes: &[(Path, Value)]) -> Vec<Change> {
        let asked = writes.iter();
        asked
            .map(|(path, value)| self.change(path, self.document.get(path), Some(value)))
            .collect()
    }

    /// The first refusal, and those of other parts that stand on their own: limits, what may not change, wrong types.
    fn all_breaks(&self, writes: &[(Path, Value)], first: UpdateError) -> Vec<UpdateError> {
        let mut breaks = vec![first];
        for (path, value) in writes.iter().take(TRIED_MAX) {
            if breaks.len() == BREAKS_MAX {
                break;
            }
            let before = self.document.get(path);
            let refused = check_limits(path, value)
                .and_then(|()| self.check_mutability(path, before, value, &mut Vec::new()))
                .and_then(|()| self.check_type(path, value));
            if let Err(error) = refused
                && !breaks.contains(&error)
            {
                breaks.push(error);
            }
        }
        breaks
    }

    fn check_type(&self, path: &Path, value: &Value) -> Result<(), UpdateError> {
        match self.try_settle(&[(path.clone(), value.clone())]) {
            // A rule may hold again with the other parts of the change.
            Err(UpdateError::Invalid { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}
