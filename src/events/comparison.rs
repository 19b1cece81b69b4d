use std::{cmp::Ordering, fmt};

use crate::value::{Path, Value};

/// A condition on an event's data: what stands at a path, compared with a value.
///
/// Numbers are compared by what they are worth, whatever their kind: 1 equals 1.0, also inside of lists and maps. Text and bytes are compared
/// byte by byte, false is less than true. Values of different kinds are not equal, and none is less than the other. In a list a component of
/// the path is a place, from 0 on: `items.0.price`. Where the path leads nowhere no comparison holds, not even [`Operator::NotEqual`].
///
/// ```
/// use underpin::{events::{Comparison, Operator}, value::Value};
///
/// # fn main() -> Result<(), underpin::value::ValueError> {
/// let dear = Comparison::new("order.total".parse()?, Operator::AtLeast, 100);
/// assert!(dear.holds(&Value::from([("order", Value::from([("total", Value::from(120.5))]))])));
/// assert!(!dear.holds(&Value::Null));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    path: Path,
    operator: Operator,
    value: Value,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// What stands at `path`, compared with `value`; the root path is the data as a whole.
    pub fn new(path: Path, operator: Operator, value: impl Into<Value>) -> Self {
        Self {
            path,
            operator,
            value: value.into(),
        }
    }

    /// Whether it holds for an event's data.
    #[must_use]
    pub fn holds(&self, data: &Value) -> bool {
        let Some(found) = at(data, &self.path) else {
            return false;
        };
        match self.operator {
            Operator::Equal => equal(found, &self.value),
            Operator::NotEqual => !equal(found, &self.value),
            ordered => order(found, &self.value).is_some_and(|order| ordered.allows(order)),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")?;
        for component in self.path.components() {
            // As a path is written, and in quotes as well where the query would take it for its own.
            let is_plain = |c: char| !(c.is_whitespace() || ".\"\\=<>![".contains(c));
            if component.chars().all(is_plain) {
                write!(f, ".{component}")?;
            } else {
                let escaped = component.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, ".\"{escaped}\"")?;
            }
        }
        // A JSON scalar, which is how the query language writes values.
        write!(f, "{}{}", self.operator, self.value.to_json())
    }
}

impl Operator {
    /// Every operator; of two that begin alike the longer one first.
    pub(super) const ALL: [Self; 6] = [
        Self::NotEqual,
        Self::AtMost,
        Self::AtLeast,
        Self::Equal,
        Self::Less,
        Self::Greater,
    ];

    /// The operator that a text begins with.
    pub(super) fn at_start_of(text: &str) -> Option<Self> {
        let begins = |operator: &Self| text.starts_with(operator.as_str());
        Self::ALL.into_iter().find(begins)
    }

    /// Its sign in queries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    fn allows(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What stands at a path that may lead through lists.
fn at<'a>(data: &'a Value, path: &Path) -> Option<&'a Value> {
    path.components().try_fold(data, |value, name| match value {
        Value::Map(map) => map.get(name),
        Value::List(list) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
            list.get(name.parse::<usize>().ok()?)
        }
        _ => None,
    })
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other.iter()).all(|(a, b)| equal(a, b))
        }
        (Value::Map(one), Value::Map(other)) => {
            let pairs = one.iter().zip(other.iter());
            let mut equal = pairs.map(|((a, one), (b, other))| a == b && equal(one, other));
            one.iter().len() == other.iter().len() && equal.all(|equal| equal)
        }
        _ => match order(one, other) {
            Some(order) => order.is_eq(),
            None => one == other,
        },
    }
}

/// The order of two values of one kind; `None` where there is none.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => Some(one.as_bytes().cmp(other.as_bytes())),
        (Value::Bytes(one), Value::Bytes(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Float(one), Value::Float(other)) => one.partial_cmp(other),
        (Value::Float(one), other) => order_of_parts(whole(other)?, *one).map(Ordering::reverse),
        (one, Value::Float(other)) => order_of_parts(whole(one)?, *other),
        (one, other) => Some(whole(one)?.cmp(&whole(other)?)),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::UInt(number) => Some((*number).into()),
        _ => None,
    }
}

/// A whole number beside one with a fraction, without rounding either.
fn order_of_parts(whole: i128, float: f64) -> Option<Ordering> {
    /// Beyond every whole number that a value can hold, and exact in both types.
    const BEYOND: f64 = 36_893_488_147_419_103_232.0; // 2^65
    if float.is_nan() {
        return None;
    }
    if float.abs() >= BEYOND {
        return Some(if float > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        });
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and below 2^65, so it fits"
    )]
    let floor = float.floor() as i128;
    let fraction = float > float.floor();
    Some(whole.cmp(&floor).then(if fraction {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_root(operator: Operator, value: impl Into<Value>) -> Comparison {
        Comparison::new(Path::root(), operator, value)
    }

    #[test]
    fn each_operator_holds_on_its_side_of_the_value() {
        let truth = |operator| [4, 5, 6].map(|n| at_root(operator, 5).holds(&Value::from(n)));

        assert_eq!(truth(Operator::Equal), [false, true, false]);
        assert_eq!(truth(Operator::NotEqual), [true, false, true]);
        assert_eq!(truth(Operator::Less), [true, false, false]);
        assert_eq!(truth(Operator::AtMost), [true, true, false]);
        assert_eq!(truth(Operator::Greater), [false, false, true]);
        assert_eq!(truth(Operator::AtLeast), [false, true, true]);
    }

    #[test]
    fn numbers_are_compared_by_worth_and_without_rounding() {
        let order = |one: Value, other: Value| {
            let forth = order(&one, &other);
            assert_eq!(super::order(&other, &one), forth.map(Ordering::reverse));
            forth
        };

        assert_eq!(order(1.into(), 1.0.into()), Some(Ordering::Equal));
        assert_eq!(order(1.into(), 1.5.into()), Some(Ordering::Less));
        assert_eq!(order((-1).into(), (-1.5).into()), Some(Ordering::Greater));
        assert_eq!(
            order(u64::MAX.into(), i64::MAX.into()),
            Some(Ordering::Greater)
        );
        // 2^53 + 1 rounds to 2^53 as a float.
        let odd = 9_007_199_254_740_993_i64;
        assert_eq!(
            order(odd.into(), 9_007_199_254_740_992.0.into()),
            Some(Ordering::Greater)
        );
        assert_eq!(
            order(u64::MAX.into(), f64::INFINITY.into()),
            Some(Ordering::Less)
        );
        assert_eq!(
            order(i64::MIN.into(), f64::NEG_INFINITY.into()),
            Some(Ordering::Greater)
        );
        assert_eq!(
            order(u64::MAX.into(), 18_446_744_073_709_551_616.0.into()),
            Some(Ordering::Less)
        );
        assert_eq!(order(0.into(), f64::NAN.into()), None);
        assert_eq!(order(0.into(), "0".into()), None);
    }

    #[test]
    fn kinds_that_differ_are_unequal_and_unordered() {
        assert!(at_root(Operator::NotEqual, 5).holds(&"5".into()));
        for operator in [
            Operator::Equal,
            Operator::Less,
            Operator::AtMost,
            Operator::AtLeast,
        ] {
            assert!(!at_root(operator, 5).holds(&"5".into()), "{operator}");
        }
        assert!(at_root(Operator::Equal, Value::Null).holds(&Value::Null));
        assert!(at_root(Operator::Equal, f64::NAN).holds(&f64::NAN.into()));
        assert!(at_root(Operator::Less, "b").holds(&"a".into()));
        assert!(at_root(Operator::Less, true).holds(&false.into()));
    }

    #[test]
    fn worth_counts_inside_of_lists_and_maps() {
        let of = |n: Value| Value::from([("list", Value::from(vec![n, "a".into()]))]);

        assert!(at_root(Operator::Equal, of(1.into())).holds(&of(1.0.into())));
        assert!(at_root(Operator::Equal, of(1_u64.into())).holds(&of(1.into())));
        assert!(at_root(Operator::NotEqual, of(1.into())).holds(&of(2.into())));
        let shorter = Value::from([("list", Value::from(vec![Value::from(1)]))]);
        assert!(at_root(Operator::NotEqual, of(1.into())).holds(&shorter));
        let renamed = Value::from([("lisp", Value::from(vec![Value::from(1), "a".into()]))]);
        assert!(at_root(Operator::NotEqual, of(1.into())).holds(&renamed));
    }

    #[test]
    fn a_number_leads_into_a_list_and_still_names_a_key_of_a_map() {
        let items = vec![Value::from(7), Value::from([("price", 9)])];
        let data = Value::from([("items", Value::from(items)), ("0", Value::from("key"))]);
        let holds = |path: &str, value: Value| {
            let path = path.parse().expect("a path");
            Comparison::new(path, Operator::Equal, value).holds(&data)
        };

        assert!(holds("items.0", 7.into()) && holds("items.1.price", 9.into()));
        assert!(holds("0", "key".into()));
        for nowhere in ["items.2", "items.+0", "items.price", "items.0.0"] {
            assert!(!holds(nowhere, 7.into()), "{nowhere}");
        }
    }

    #[test]
    fn where_nothing_is_nothing_holds() {
        let path: Path = "a.b".parse().expect("a path");
        for operator in Operator::ALL {
            let comparison = Comparison::new(path.clone(), operator, 1);
            assert!(!comparison.holds(&Value::map()), "{operator}");
            assert!(!comparison.holds(&Value::from([("a", 1)])), "{operator}");
        }
    }
}
