//! Whatever is written as a query is read or pointed at, and what was read is written so that it is read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use underpin::events::{Query, QueryError, Timestamp, When};

fuzz_target!(|text: &str| {
    let when = When::utc(Timestamp::from_nanos(1_700_000_000_000_000_000));
    match Query::parse(text, &when) {
        Ok(query) => assert_eq!(Query::parse(&query.to_string(), &when), Ok(query)),
        Err(QueryError::Text(misread)) => assert_eq!(misread.pointer().lines().count(), 2),
        Err(_) => {}
    }
});
