//! The part of Milvus' gRPC protocol that we speak: `milvus.proto`, `schema.proto` and `common.proto`
//! of milvus-proto, as of servers 2.3 to 2.6. Fields that we neither set nor read are left out, which
//! protobuf allows; numbers are the protocol's.

use prost::Message;

/// `schema.DataType`.
pub(super) mod data_type {
    pub(in crate::store::milvus) const BOOL: i32 = 1;
    pub(in crate::store::milvus) const INT64: i32 = 5;
    pub(in crate::store::milvus) const VARCHAR: i32 = 21;
    pub(in crate::store::milvus) const ARRAY: i32 = 22;
    pub(in crate::store::milvus) const FLOAT_VECTOR: i32 = 101;
}

/// `common.ConsistencyLevel`: how far a read waits for the writes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Consistency {
    /// For all writes of everybody, up to a tick of the server's clock (0.2 s).
    Strong = 0,
    /// For the writes up to a given timestamp.
    Session = 1,
    /// For nothing.
    Eventually = 3,
}

/// `common.Status`. Servers before 2.3 fill `error_code`, later ones `code` too.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) error_code: i32,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValuePair {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

impl KeyValuePair {
    pub(super) fn new(key: &str, value: impl ToString) -> Self {
        Self { key: key.to_owned(), value: value.to_string() }
    }
}

// === schema ===

#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldSchema {
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(bool, tag = "3")]
    pub(super) is_primary_key: bool,
    #[prost(int32, tag = "5")]
    pub(super) data_type: i32,
    #[prost(message, repeated, tag = "6")]
    pub(super) type_params: Vec<KeyValuePair>,
    #[prost(int32, tag = "10")]
    pub(super) element_type: i32,
    #[prost(bool, tag = "13")]
    pub(super) is_partition_key: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CollectionSchema {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) fields: Vec<FieldSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateCollection {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    /// A [`CollectionSchema`], encoded.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) schema: Vec<u8>,
    #[prost(int32, tag = "5")]
    pub(super) shards_num: i32,
    #[prost(int32, tag = "6")]
    pub(super) consistency_level: i32,
    #[prost(int64, tag = "8")]
    pub(super) num_partitions: i64,
}

/// `DescribeCollectionRequest`; `HasCollectionRequest` and `LoadCollectionRequest` begin alike.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OfCollection {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    /// `LoadCollectionRequest.replica_number`.
    #[prost(int32, tag = "4")]
    pub(super) replica_number: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ShowCollections {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CollectionNames {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(string, repeated, tag = "2")]
    pub(super) collection_names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Description {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<CollectionSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateIndex {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    #[prost(string, tag = "4")]
    pub(super) field_name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) extra_params: Vec<KeyValuePair>,
    #[prost(string, tag = "6")]
    pub(super) index_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetLoadState {
    #[prost(string, tag = "2")]
    pub(super) collection_name: String,
}

/// `LoadState`: 0 no such collection, 1 not loaded, 2 loading, 3 loaded.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadState {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(int32, tag = "2")]
    pub(super) state: i32,
}

// === data ===

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub(super) data: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Longs {
    #[prost(int64, repeated, tag = "1")]
    pub(super) data: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Strings {
    #[prost(string, repeated, tag = "1")]
    pub(super) data: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub(super) data: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Arrays {
    #[prost(message, repeated, tag = "1")]
    pub(super) data: Vec<Scalars>,
    #[prost(int32, tag = "2")]
    pub(super) element_type: i32,
}

/// `schema.ScalarField`: one column, or one row's array.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scalars {
    #[prost(oneof = "Column", tags = "1, 3, 6, 8")]
    pub(super) column: Option<Column>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Column {
    #[prost(message, tag = "1")]
    Bools(Bools),
    #[prost(message, tag = "3")]
    Longs(Longs),
    #[prost(message, tag = "6")]
    Strings(Strings),
    #[prost(message, tag = "8")]
    Arrays(Arrays),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Vectors {
    #[prost(int64, tag = "1")]
    pub(super) dim: i64,
    #[prost(message, optional, tag = "2")]
    pub(super) floats: Option<Floats>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldData {
    #[prost(int32, tag = "1")]
    pub(super) data_type: i32,
    #[prost(string, tag = "2")]
    pub(super) field_name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) scalars: Option<Scalars>,
    #[prost(message, optional, tag = "4")]
    pub(super) vectors: Option<Vectors>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Upsert {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) fields_data: Vec<FieldData>,
    #[prost(uint32, tag = "7")]
    pub(super) num_rows: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Delete {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    #[prost(string, tag = "5")]
    pub(super) expr: String,
}

/// `MutationResult`. `timestamp` is when it became true, for a session read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mutation {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(uint64, tag = "9")]
    pub(super) timestamp: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Query {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    #[prost(string, tag = "4")]
    pub(super) expr: String,
    #[prost(string, repeated, tag = "5")]
    pub(super) output_fields: Vec<String>,
    #[prost(uint64, tag = "8")]
    pub(super) guarantee_timestamp: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) query_params: Vec<KeyValuePair>,
    #[prost(int32, tag = "11")]
    pub(super) consistency_level: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryResults {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) fields_data: Vec<FieldData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Search {
    #[prost(string, tag = "3")]
    pub(super) collection_name: String,
    #[prost(string, tag = "5")]
    pub(super) dsl: String,
    /// A [`PlaceholderGroup`], encoded.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) placeholder_group: Vec<u8>,
    /// 1: `dsl` is a boolean expression.
    #[prost(int32, tag = "7")]
    pub(super) dsl_type: i32,
    #[prost(string, repeated, tag = "8")]
    pub(super) output_fields: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub(super) search_params: Vec<KeyValuePair>,
    #[prost(int64, tag = "12")]
    pub(super) nq: i64,
    #[prost(int32, tag = "14")]
    pub(super) consistency_level: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PlaceholderValue {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    /// 101: a float vector, little endian.
    #[prost(int32, tag = "2")]
    pub(super) kind: i32,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) values: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PlaceholderGroup {
    #[prost(message, repeated, tag = "1")]
    pub(super) placeholders: Vec<PlaceholderValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchResults {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) results: Option<SearchResultData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchResultData {
    #[prost(message, repeated, tag = "3")]
    pub(super) fields_data: Vec<FieldData>,
    #[prost(float, repeated, tag = "4")]
    pub(super) scores: Vec<f32>,
    #[prost(message, optional, tag = "5")]
    pub(super) ids: Option<Ids>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ids {
    #[prost(message, optional, tag = "2")]
    pub(super) strings: Option<Strings>,
}
