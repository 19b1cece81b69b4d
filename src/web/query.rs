//! Reads what follows the `?`. Pure.

use axum::extract::{Query as Parameters, rejection::QueryRejection};

use super::error::ApiError;

/// The parameters of a request, in the order in which they were given.
pub(super) type Given = Result<Parameters<Vec<(String, String)>>, QueryRejection>;

/// Picks the known parameters. One that nobody knows, or that is given twice, is an error: a search that silently ignores
/// half of what it was asked finds the wrong things.
pub(super) fn known<const N: usize>(
    given: Given,
    names: [&str; N],
) -> Result<[Option<String>; N], ApiError> {
    let Parameters(given) = given?;
    let mut found = [const { None }; N];
    for (name, value) in given {
        let place = names
            .iter()
            .zip(&mut found)
            .find(|(known, _)| **known == name);
        let Some((_, place)) = place else {
            let words = format!(
                "there is no parameter {name:?}; there are: {}",
                names.join(", ")
            );
            return Err(ApiError::malformed(words));
        };
        if place.replace(value).is_some() {
            let words = format!("the parameter {name:?} is given twice; give it once");
            return Err(ApiError::malformed(words));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Parameters<Vec<(String, String)>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Parameters(pairs.iter().map(own).collect())
    }

    #[test]
    fn known_parameters_are_found_wherever_they_stand() {
        let found = known(Ok(given(&[("b", "2"), ("a", "1")])), ["a", "b", "c"]);
        assert_eq!(found.ok(), Some([Some("1".into()), Some("2".into()), None]));
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(known(Ok(given(&[("x", "1")])), ["a"]).is_err());
        assert!(known(Ok(given(&[("a", "1"), ("a", "2")])), ["a"]).is_err());
    }
}
