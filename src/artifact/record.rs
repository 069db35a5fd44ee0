//! Rows of tables from their structs: `record!` gives a struct one column for each of its fields.

use super::columns::{Field, Kind, Shape, Sink};
use super::table::Source;

/// A value that is a cell of a table.
pub(super) trait Cell: Sized {
    /// Its column.
    fn field(name: &str) -> Field;
    /// Hands it over.
    fn put(self, sink: &mut Sink<'_>);
    /// Takes it.
    fn get(source: &mut Source<'_>) -> Result<Self, String>;
}

macro_rules! cells {
    ($($type:ty: $kind:ident),*) => {$(
        impl Cell for $type {
            fn field(name: &str) -> Field {
                Field::new(name, Kind::$kind, Shape::One)
            }
            fn put(self, sink: &mut Sink<'_>) {
                sink.one(self);
            }
            fn get(source: &mut Source<'_>) -> Result<Self, String> {
                source.one()
            }
        }
        impl Cell for Option<$type> {
            fn field(name: &str) -> Field {
                Field::new(name, Kind::$kind, Shape::Maybe)
            }
            fn put(self, sink: &mut Sink<'_>) {
                sink.maybe(self);
            }
            fn get(source: &mut Source<'_>) -> Result<Self, String> {
                source.maybe()
            }
        }
        impl Cell for Vec<$type> {
            fn field(name: &str) -> Field {
                Field::new(name, Kind::$kind, Shape::Many)
            }
            fn put(self, sink: &mut Sink<'_>) {
                sink.many(self);
            }
            fn get(source: &mut Source<'_>) -> Result<Self, String> {
                source.many()
            }
        }
    )*};
}
cells!(bool: Bool, i32: I32, i64: I64, f32: F32, f64: F64);

impl Cell for String {
    fn field(name: &str) -> Field {
        Field::new(name, Kind::Text, Shape::One)
    }
    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self);
    }
    fn get(source: &mut Source<'_>) -> Result<Self, String> {
        source.text()
    }
}

impl Cell for Vec<String> {
    fn field(name: &str) -> Field {
        Field::new(name, Kind::Text, Shape::Many)
    }
    fn put(self, sink: &mut Sink<'_>) {
        sink.texts(self);
    }
    fn get(source: &mut Source<'_>) -> Result<Self, String> {
        source.texts()
    }
}

/// A struct whose fields are the columns of a table, in order and under their names.
macro_rules! record {
    ($(#[$about:meta])* pub struct $name:ident {
        $($(#[$meaning:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$meaning])* pub $field: $type,)*
        }

        impl $crate::artifact::table::Record for $name {
            fn fields() -> Vec<$crate::artifact::columns::Field> {
                vec![$(<$type as $crate::artifact::record::Cell>::field(stringify!($field)),)*]
            }
            fn put(self, sink: &mut $crate::artifact::columns::Sink<'_>) {
                $($crate::artifact::record::Cell::put(self.$field, sink);)*
            }
            fn get(
                source: &mut $crate::artifact::table::Source<'_>,
            ) -> ::std::result::Result<Self, String> {
                Ok(Self { $($field: $crate::artifact::record::Cell::get(source)?,)* })
            }
        }
    };
}
pub(super) use record;
