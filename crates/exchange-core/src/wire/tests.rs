//! Reading, the general way and the fast one.

use super::*;
use crate::decimal::Decimal;
use crate::event::Side;
use crate::time::Time;

crate::wire! {
    struct Inner<'a> { b: Cow<'a, str>, a: Num, t: Millis = "time" }
    struct Envelope<T> { code: u64, list: T }
    struct Candle row { open_time: Millis, open: Num }
}

#[test]
fn fields_come_in_any_order_with_any_space() {
    for text in [
        r#"{"b":"x","a":"1.50","time":5}"#,
        r#"{ "time" : "5" , "zzz":[{"a":[1,2.5e3,null]}], "a":1.50,"b" :"x" }"#,
        "{\"\\u0062\":\"x\",\"a\":1.5,\n\"time\":5}",
    ] {
        let inner: Inner = read(text).expect(text);
        assert_eq!((inner.b.as_ref(), inner.a.0.unwrap().to_string(), inner.t.0), ("x", "1.5".to_owned(), Some(Time::from_millis(5))), "{text}");
    }
}

#[test]
fn absent_is_absent() {
    for value in [r#""""#, "null", r#""NaN""#] {
        let text = format!(r#"{{"b":"x","a":{value},"time":0}}"#);
        let inner: Inner = read(&text).unwrap();
        assert_eq!((inner.a.0, inner.t.0), (None, None));
    }
    let fault = read::<Inner>(r#"{"a":1}"#).unwrap_err();
    assert_eq!((fault.key, fault.broken), (Some("b"), false));
}

#[test]
fn every_truncation_is_noticed() {
    let text = r#"{"code":0,"list":[{"b":"x\"y","a":"1.50","time":5,"more":[true,null,-1.5e-3,{"k":"v"}]}]}"#;
    assert_eq!(read::<Envelope<Vec<Inner>>>(text).unwrap().list[0].b, "x\"y");
    assert_eq!(read::<Envelope<Rows<Inner>>>(text).unwrap().code, 0);
    for end in 0..text.len() {
        read::<Envelope<Rows<Inner>>>(&text[..end]).expect_err(&text[..end]);
        read::<Envelope<Vec<Inner>>>(&text[..end]).expect_err(&text[..end]);
    }
}

#[test]
fn what_is_not_json_is_broken_even_where_nobody_looks() {
    for rest in [
        ",",
        ",,",
        r#","z":01"#,
        r#","z":1.}"#,
        r#","z":tru"#,
        r#","z":[1,]"#,
        r#","z":{"a"}"#,
        r#","z":"\x""#,
        r#","z":"\ud800\ud800""#,
        r#","z":"\udc00""#,
        ",\"z\":\"\n\"",
        r#","z":nul"#,
        r#","z":1 2"#,
    ] {
        let text = format!(r#"{{"b":"x","a":1,"time":5{rest}}}"#);
        assert!(read::<Inner>(&text).expect_err(&text).broken, "{text}");
    }
    assert!(read::<Inner>(r#"{"b":"x"} x"#).unwrap_err().broken);
    let deep = format!(r#"{{"z":{}"#, "[".repeat(100_000));
    assert!(read::<Inner>(&deep).unwrap_err().broken);
}

#[test]
fn a_bad_record_costs_only_itself() {
    let text = r#"[{"b":"x"},{"b":"y","a":"one"},{"a":{}},{"b":"z"}]"#;
    let rows: Rows<Inner> = read(text).unwrap();
    let seen: Vec<_> = rows.0.iter().map(|row| row.as_ref().map(|i| i.b.to_string()).map_err(|bad| bad.text)).collect();
    assert_eq!(seen, [Ok("x".to_owned()), Err(r#"{"b":"y","a":"one"}"#), Err(r#"{"a":{}}"#), Ok("z".to_owned())]);
}

/// The fast ways of reading numbers say what the slow one says, at every length and in every place.
#[test]
fn fast_numbers_are_slow_numbers() {
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..200_000 {
        let length = rng.usize(0..20);
        let mut number: String = (0..length).map(|_| *rng.choice(b"0000012345678999").unwrap_or(&b'0') as char).collect();
        if rng.u8(0..4) > 0 {
            number.insert(rng.usize(0..=length), '.');
        }
        if rng.u8(0..8) == 0 {
            number.insert(rng.usize(0..=number.len()), *rng.choice(&['-', 'e', '.', ' ', '/', ':', 'x', 'ß']).unwrap_or(&'-'));
        }
        let text = format!("{{\"b\":\"\",\"a\":\"{number}\"{}}}", ",\"time\":5".repeat(rng.usize(0..3)));
        let fast = read::<Inner>(&text).map(|inner| inner.a.0);
        match Decimal::parse(number.as_bytes()) {
            Ok(slow) => assert_eq!(fast.expect(&text), Some(slow), "{text}"),
            Err(_) if number.is_empty() => assert_eq!(fast.expect(&text), None),
            Err(_) => assert!(fast.is_err(), "{text}"),
        }
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let text = format!("{{\"code\":{digits}, \"list\":[{digits},1,{digits}]}}");
        let fast = read::<Envelope<Vec<u64>>>(&text).map(|envelope| (envelope.code, envelope.list));
        match digits.parse::<u64>() {
            Ok(number) if digits.len() == 1 || !digits.starts_with('0') => assert_eq!(fast.expect(&text), (number, vec![number, 1, number])),
            _ => assert!(fast.is_err(), "{text}"),
        }
    }
}

#[test]
fn rows_by_position() {
    let candle: Candle = read(r#"[1499040000000,"0.5",7,"x"]"#).unwrap();
    assert_eq!(candle.open_time.0, Some(Time::from_millis(1_499_040_000_000)));
    assert_eq!(candle.open.0.unwrap().to_string(), "0.5");
    assert!(read::<Candle>("[1499040000000,{}]").is_err());
}

#[test]
fn times_are_told_apart_by_their_magnitude() {
    let micros = |text: &str| read::<AnyTime>(text).map(|time| time.0.map(crate::time::Time::micros));
    for text in ["1731897467", "\"1731897467\"", "1731897467000", "\"1731897467000\"", "1731897467000000", "1731897467000000000", "\"1731897467.000\""] {
        assert_eq!(micros(text).unwrap(), Some(1_731_897_467_000_000), "{text}");
    }
    assert_eq!(micros("1514764800.123").unwrap(), Some(1_514_764_800_123_000));
    assert_eq!(micros("\"1606292218213.4578\"").unwrap(), Some(1_606_292_218_213_457));
    assert_eq!(micros("1697915257909123456").unwrap(), Some(1_697_915_257_909_123));
    for text in ["0", "\"\"", "null", "\"0\""] {
        assert_eq!(micros(text).unwrap(), None, "{text}");
    }
    for text in ["\"x\"", "-5", "\"1.\u{0660}\"", "1e9", "99999999999999999999", "\"1731897467:5\""] {
        assert!(micros(text).is_err(), "{text}");
    }
}

#[test]
fn only_whole_hours_are_hours() {
    let hours = |text: &str, units| read::<Num>(text).unwrap().hours(units);
    assert_eq!([hours("480", 60), hours("\"28800000\"", 3_600_000), hours("8", 1)], [Some(8); 3]);
    assert_eq!(
        [hours("90", 60), hours("0", 60), hours("-60", 60), hours("60.5", 60), hours("\"\"", 60), hours("60", 0)],
        [None, None, None, None, None, Some(60)]
    );
}

#[test]
fn a_side_is_one_of_two_words() {
    let side = |text: &str| read::<Taker>(text).map(|taker| taker.0);
    for (text, side_of_it) in
        [("buy", Some(Side::Buy)), ("Buy", Some(Side::Buy)), ("sell", Some(Side::Sell)), ("Sell", Some(Side::Sell)), ("BUY", None), ("", None)]
    {
        assert_eq!(side(&format!("\"{text}\"")).unwrap(), side_of_it, "{text}");
    }
    assert_eq!(side("null").unwrap(), None);
    side("1").unwrap_err();
}
