//! Values: what goes in comes out, and nothing hostile harms.
//!
//! Of F96, `blank?`, `present?` and the tables of formatted sizes and durations have no counterpart: an empty value is told apart by its
//! own type here, and formatting is left to whoever shows it.

use underpin::value::{Limits, Path, Value, ValueError, codec};

fn json(text: &str) -> Value {
    Value::from_json(text, Limits::DEFAULT).expect("test JSON is valid")
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("test path is valid")
}

fn through_the_codec(value: &Value) -> Value {
    let mut bytes = Vec::new();
    codec::encode_value(value, &mut bytes).expect("value is within the limits");
    let (decoded, used) =
        codec::decode_value(&bytes, Limits::DEFAULT).expect("what was encoded is decoded");
    assert_eq!(used, bytes.len());
    decoded
}

#[test]
fn f43_nested_data_of_every_kind_comes_back_as_it_was() {
    let value = json(
        r#"{"map": {"list": [1, -2, 18446744073709551615, [true, null]], "float": 1.5, "negative_zero": -0.0},
            "bytes": {"$bytes": "iVBORw=="}, "nan": {"$float": "NaN"}, "empty": [{}, [], ""]}"#,
    );

    assert_eq!(through_the_codec(&value), value);
    assert_eq!(json(&value.to_json()), value);
}

#[test]
fn f44_text_of_every_script_and_any_bytes_come_back_as_they_were() {
    let texts = [
        "🚀🔥💯",
        "你好世界",
        "مرحبا بالعالم",
        "\"quotes\" and \\escapes\\",
        "test\0null",
        "line\nbreak\ttab",
        "",
    ];
    let png_header = Value::from(&[0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a][..]);
    let every_byte = Value::Bytes((0..=255).collect());
    let value = Value::from(vec![Value::from(texts.to_vec()), png_header, every_byte]);

    assert_eq!(through_the_codec(&value), value);
    assert_eq!(json(&value.to_json()), value);
}

#[test]
fn f45_bytes_that_are_no_encoding_are_an_error() {
    for corrupt in [
        &b"definitely not a valid serialized event"[..],
        &[1, 2, 3, 255, 254, 253],
        &[],
    ] {
        let whole = codec::decode_value(corrupt, Limits::DEFAULT)
            .ok()
            .filter(|(_, used)| *used == corrupt.len());
        assert_eq!(whole, None, "{corrupt:?} passed for a value");
    }
}

#[test]
fn f46_twenty_levels_are_fine_and_a_larger_value_is_longer() {
    let twenty = "[".repeat(20) + &"]".repeat(20);
    assert!(Value::from_json(twenty, Limits::CONFIG).is_ok());

    let len = |value: &Value| codec::encoded_len(value).expect("value is within the limits");
    let (small, large) = (Value::from("x"), Value::from("x".repeat(1000)));
    assert!(len(&large) > len(&small) + 990);
}

#[test]
fn f94_what_is_long_is_shortened_and_says_so() {
    let short = json("[1, 2, 3]");
    assert_eq!(short.shortened(10_000), short);

    let shortened = Value::from("x".repeat(20_000)).shortened(10_000);

    assert_eq!(shortened.get(&path("truncated")), Some(&Value::Bool(true)));
    let original_size = shortened
        .get(&path("original_size"))
        .and_then(Value::as_u64);
    assert!(
        original_size.is_some_and(|size| size > 10_000),
        "{original_size:?}"
    );
    assert_eq!(
        shortened.get(&path("preview")),
        Some(&Value::from("x".repeat(100)))
    );
}

#[test]
fn f95_a_deep_merge_goes_name_by_name_and_the_right_side_wins() {
    let left = json(r#"{"a": {"b": 1, "c": 2}, "d": 3}"#);
    let right = json(r#"{"a": {"c": 3, "e": 4}, "f": 5}"#);

    let merged = left.merge(&right);

    assert_eq!(
        merged,
        json(r#"{"a": {"b": 1, "c": 3, "e": 4}, "d": 3, "f": 5}"#)
    );
}

#[test]
fn f96_a_nested_value_is_put_where_nothing_was_and_found_again() {
    let value = Value::map()
        .with(&path("a.b.c"), 1.into())
        .expect("nothing is in the way");

    assert_eq!(value, json(r#"{"a": {"b": {"c": 1}}}"#));
    assert_eq!(value.get(&path("a.b.c")), Some(&Value::Int(1)));
    assert_eq!(value.get(&path("a.x.c")), None);
    assert_eq!(value.get(&path("a.b.c.d")), None);
}

#[test]
fn f13_hostile_paths_are_refused_or_harmless() {
    let thousand_deep = ["x"; 1000].join(".");
    assert!(matches!(
        Path::parse(&thousand_deep),
        Err(ValueError::Path { .. })
    ));
    assert!(Path::parse(&"x".repeat(10_000)).is_err());

    for odd in [
        "__struct__",
        "Elixir.System",
        "../../etc/passwd",
        "'; DROP TABLE x",
        "<script>",
    ] {
        let found = Path::parse(odd)
            .ok()
            .filter(|path| json("{}").get(path).is_some());
        assert_eq!(found, None, "{odd}");
    }
}

#[test]
fn f14_a_value_nested_a_hundred_deep_is_refused() {
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert_eq!(
        Value::from_json(&deep, Limits::CONFIG),
        Err(ValueError::TooDeep { limit: 20 })
    );
    assert_eq!(
        Value::from_json(&deep, Limits::DEFAULT),
        Err(ValueError::TooDeep { limit: 64 })
    );
}
