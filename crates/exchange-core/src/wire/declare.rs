//! `wire!`: structs in the venue's own words, and the code that reads them.

use super::{Fault, Read};

/// Declares structs that are read from JSON.
///
/// ```
/// use exchange_core::wire::{self, Millis, Num};
/// use std::borrow::Cow;
///
/// exchange_core::wire! {
///     /// A trade, as a venue pushes it.
///     pub struct Trade<'a> {
///         T: Millis,
///         s: Cow<'a, str>,
///         price: Num = "p",
///     }
///     /// A candle: an array, by position.
///     pub struct Candle row {
///         open_time: Millis,
///         open: Num,
///     }
/// }
/// let trade: Trade = wire::read(r#"{"T":1,"s":"BTCUSDT","p":"0.10","new":[]}"#)?;
/// assert_eq!((trade.s.as_ref(), trade.price.0.unwrap().to_string().as_str()), ("BTCUSDT", "0.1"));
/// let candle: Candle = wire::read(r#"[1,"2.5","more"]"#)?;
/// assert_eq!(candle.open.0.unwrap().to_string(), "2.5");
/// # Ok::<(), wire::Fault>(())
/// ```
///
/// A struct may have one lifetime (`<'a>`) or one type parameter (`<T>`). A field's key is its name, or what stands
/// behind `=`; fields are best declared in the order in which the venue sends them. Unknown keys are passed over. A
/// field is required unless its type says otherwise ([`Wire::absent`](crate::wire::Wire::absent)): [`Num`](crate::wire::Num), [`Millis`](crate::wire::Millis), `Option`.
#[macro_export]
macro_rules! wire {
    () => {};
    ($(#[$meta:meta])* $vis:vis struct $name:ident row { $($(#[$fmeta:meta])* $field:ident: $ty:ty),+ $(,)? } $($rest:tt)*) => {
        $crate::wire!(@struct $(#[$meta])* $vis $name [] { $($(#[$fmeta])* $field: $ty,)+ });
        impl<'w> $crate::wire::Wire<'w> for $name { $crate::wire!(@row 'w, $($field: $ty,)+); }
        $crate::wire! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$lt:lifetime> row { $($(#[$fmeta:meta])* $field:ident: $ty:ty),+ $(,)? } $($rest:tt)*) => {
        $crate::wire!(@struct $(#[$meta])* $vis $name [$lt] { $($(#[$fmeta])* $field: $ty,)+ });
        impl<$lt> $crate::wire::Wire<$lt> for $name<$lt> { $crate::wire!(@row $lt, $($field: $ty,)+); }
        $crate::wire! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty $(= $key:literal)?),+ $(,)? } $($rest:tt)*) => {
        $crate::wire!(@struct $(#[$meta])* $vis $name [] { $($(#[$fmeta])* $field: $ty,)+ });
        impl<'w> $crate::wire::Wire<'w> for $name { $crate::wire!(@object 'w, $($field: $ty [$($key)?],)+); }
        $crate::wire! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$lt:lifetime> { $($(#[$fmeta:meta])* $field:ident: $ty:ty $(= $key:literal)?),+ $(,)? } $($rest:tt)*) => {
        $crate::wire!(@struct $(#[$meta])* $vis $name [$lt] { $($(#[$fmeta])* $field: $ty,)+ });
        impl<$lt> $crate::wire::Wire<$lt> for $name<$lt> { $crate::wire!(@object $lt, $($field: $ty [$($key)?],)+); }
        $crate::wire! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$param:ident> { $($(#[$fmeta:meta])* $field:ident: $ty:ty $(= $key:literal)?),+ $(,)? } $($rest:tt)*) => {
        $crate::wire!(@struct $(#[$meta])* $vis $name [$param] { $($(#[$fmeta])* $field: $ty,)+ });
        impl<'w, $param: $crate::wire::Wire<'w>> $crate::wire::Wire<'w> for $name<$param> { $crate::wire!(@object 'w, $($field: $ty [$($key)?],)+); }
        $crate::wire! { $($rest)* }
    };
    (@struct $(#[$meta:meta])* $vis:vis $name:ident [$($param:tt)*] { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[allow(non_snake_case, missing_docs, reason = "the venue's own names")]
        $vis struct $name<$($param)*> { $($(#[$fmeta])* $vis $field: $ty,)+ }
    };
    (@object $lt:lifetime, $($field:ident: $ty:ty [$($key:literal)?],)+) => {
        #[allow(non_snake_case)]
        #[inline]
        fn read(reader: &mut $crate::wire::Reader<$lt>) -> $crate::wire::Read<Self> {
            $(let mut $field: Option<$ty> = None;)+
            if reader.open_object()? {
                'object: loop {
                    let start = reader.position();
                    $(
                        if reader.at_key(concat!("\"", $crate::wire!(@key $field $($key)?), "\":").as_bytes()) {
                            $field = Some($crate::wire::at($crate::wire!(@key $field $($key)?), $crate::wire::Wire::read(reader))?);
                            if !reader.more_in_object()? { break 'object; }
                        }
                    )+
                    if reader.position() != start { continue; }
                    // A key that is unknown, or written with white space or escapes.
                    let key = reader.key()?;
                    match &*key {
                        $($crate::wire!(@key $field $($key)?) => $field = Some($crate::wire::at($crate::wire!(@key $field $($key)?), $crate::wire::Wire::read(reader))?),)+
                        _ => reader.skip()?,
                    }
                    if !reader.more_in_object()? { break; }
                }
            }
            Ok(Self { $($field: match $field {
                Some(value) => value,
                None => $crate::wire::Wire::absent(reader, $crate::wire!(@key $field $($key)?))?,
            },)+ })
        }
    };
    (@row $lt:lifetime, $($field:ident: $ty:ty,)+) => {
        #[allow(unused_assignments, reason = "the last element's follower is passed over")]
        fn read(reader: &mut $crate::wire::Reader<$lt>) -> $crate::wire::Read<Self> {
            let mut more = reader.open_array()?;
            $(let $field: $ty = if more {
                let value = $crate::wire::at(stringify!($field), $crate::wire::Wire::read(reader))?;
                more = reader.more_in_array()?;
                value
            } else {
                $crate::wire::Wire::absent(reader, stringify!($field))?
            };)+
            while more {
                reader.skip()?;
                more = reader.more_in_array()?;
            }
            Ok(Self { $($field,)+ })
        }
    };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}

/// Names the key that a fault concerns, innermost first.
///
/// # Errors
/// The fault that was given.
#[doc(hidden)]
#[inline]
pub fn at<T>(key: &'static str, result: Read<T>) -> Read<T> {
    match result {
        Ok(value) => Ok(value),
        Err(fault) => Err(Fault { key: fault.key.or(Some(key)), ..fault }),
    }
}
