//! Records as Qdrant's points, and back.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use qdrant_client::qdrant::{
    Condition, FieldType, Filter, IntegerIndexParamsBuilder, KeywordIndexParamsBuilder, ListValue,
    NamedVectors, PayloadIncludeSelector, PointId, PointStruct, QuantizationSearchParamsBuilder,
    Range, RetrievedPoint, ScoredPoint, SearchParams, SearchParamsBuilder, Value, Vectors,
    payload_index_params::IndexParams, point_id::PointIdOptions, value::Kind,
    vector_output::Vector as Kept,
};
use uuid::Uuid;

use crate::{
    embed::Vector,
    store::{EntryId, Holding, IN_VIEW, Neighbour, Quantization, Record, Selector, StoreFault},
};

/// The vector's name.
pub(super) const VECTOR: &str = "question";

const ANSWER: &str = "answer";
const PARTITION: &str = "partition";
const TENANT: &str = "tenant";
const MODEL: &str = "model";
const ROUTE: &str = "route";
const TAGS: &str = "tags";
const QUESTION: &str = "text";
const GENERATED_MS: &str = "generated_ms";
const EXPIRES_MS: &str = "expires_ms";
const PAYLOAD: &str = "payload";

/// What filters go by. Every search asks within one partition, so only partitions get graphs, and the
/// vectors of one are kept side by side.
pub(super) fn indexes() -> Vec<(&'static str, FieldType, IndexParams)> {
    let partition = KeywordIndexParamsBuilder::default().is_tenant(true);
    let text = || KeywordIndexParamsBuilder::default().on_disk(true).enable_hnsw(false).into();
    // Times are compared, never looked up.
    let time =
        || IntegerIndexParamsBuilder::new(false, true).on_disk(true).enable_hnsw(false).into();
    vec![
        (PARTITION, FieldType::Keyword, partition.into()),
        (ANSWER, FieldType::Keyword, text()),
        (TENANT, FieldType::Keyword, text()),
        (MODEL, FieldType::Keyword, text()),
        (ROUTE, FieldType::Keyword, text()),
        (TAGS, FieldType::Keyword, text()),
        (GENERATED_MS, FieldType::Integer, time()),
        (EXPIRES_MS, FieldType::Integer, time()),
    ]
}

pub(super) fn point_id(id: EntryId) -> PointId {
    Uuid::from_u128(id.0).to_string().into()
}

pub(super) fn point(record: &Record) -> PointStruct {
    let text = |text: &str| Value::from(text.to_owned());
    let number = |ms: u64| Value::from(i64::try_from(ms).unwrap_or(i64::MAX));
    let tags = ListValue { values: record.tags.iter().map(|tag| text(tag)).collect() };
    let payload = HashMap::from([
        (ANSWER.to_owned(), text(&record.answer.to_string())),
        (PARTITION.to_owned(), text(&record.partition)),
        (TENANT.to_owned(), text(&record.tenant)),
        (MODEL.to_owned(), text(&record.model)),
        (ROUTE.to_owned(), text(&record.route)),
        (TAGS.to_owned(), Value { kind: Some(Kind::ListValue(tags)) }),
        (QUESTION.to_owned(), text(&record.question)),
        (GENERATED_MS.to_owned(), number(record.generated_ms)),
        (EXPIRES_MS.to_owned(), number(record.expires_ms)),
        (PAYLOAD.to_owned(), Value::from(BASE64_STANDARD.encode(&record.payload))),
    ]);
    let mut vectors = NamedVectors::default();
    if let Some(vector) = &record.vector {
        vectors = vectors.add_vector(VECTOR, vector.to_vec());
    }
    PointStruct { id: Some(point_id(record.id)), payload, vectors: Some(Vectors::from(vectors)) }
}

pub(super) fn record(id: EntryId, point: RetrievedPoint) -> Result<Record, StoreFault> {
    let payload = &point.payload;
    let bytes = BASE64_STANDARD.decode(text(payload, PAYLOAD)?);
    let vector = point.vectors.as_ref().and_then(|vectors| vectors.get_vector_by_name(VECTOR));
    Ok(Record {
        id,
        answer: answer(payload)?,
        partition: text(payload, PARTITION)?.into(),
        tenant: text(payload, TENANT)?.into(),
        model: text(payload, MODEL)?.into(),
        route: text(payload, ROUTE)?.into(),
        tags: tags(payload),
        question: text(payload, QUESTION)?.into(),
        vector: vector.and_then(|vector| match vector {
            Kept::Dense(dense) => Some(Vector::from(dense.data)),
            Kept::Sparse(_) | Kept::MultiDense(_) => None,
        }),
        generated_ms: number(payload, GENERATED_MS)?,
        expires_ms: number(payload, EXPIRES_MS)?,
        payload: bytes.map_err(|error| damaged(PAYLOAD, &error))?.into(),
    })
}

pub(super) fn neighbour(found: &ScoredPoint) -> Result<Neighbour, StoreFault> {
    let payload = &found.payload;
    Ok(Neighbour {
        id: entry_id(found.id.as_ref())?,
        answer: answer(payload)?,
        // Rounding takes the dot product of two unit vectors a little beyond the unit.
        similarity: found.score.clamp(-1.0, 1.0),
        partition: text(payload, PARTITION)?.into(),
        question: text(payload, QUESTION)?.into(),
        expires_ms: number(payload, EXPIRES_MS)?,
    })
}

/// What a neighbour needs: not the answer.
pub(super) fn neighbour_fields() -> PayloadIncludeSelector {
    let fields = [ANSWER, PARTITION, QUESTION, EXPIRES_MS].map(str::to_owned);
    PayloadIncludeSelector { fields: fields.to_vec() }
}

/// What a list tells of a point: not its answer, so not its size either.
pub(super) fn holding(point: &RetrievedPoint) -> Result<Holding, StoreFault> {
    Ok(Holding {
        id: entry_id(point.id.as_ref())?,
        answer: answer(&point.payload)?,
        bytes: None,
        generated_ms: number(&point.payload, GENERATED_MS)?,
        expires_ms: number(&point.payload, EXPIRES_MS)?,
    })
}

pub(super) fn holding_fields() -> PayloadIncludeSelector {
    let fields = [ANSWER, GENERATED_MS, EXPIRES_MS].map(str::to_owned);
    PayloadIncludeSelector { fields: fields.to_vec() }
}

fn entry_id(id: Option<&PointId>) -> Result<EntryId, StoreFault> {
    let id = match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(text).ok(),
        Some(PointIdOptions::Num(_)) | None => None,
    };
    id.map(|id| EntryId(id.as_u128())).ok_or_else(|| damaged("id", &"not ours"))
}

/// Quantized vectors find candidates; the similarity is that of the full ones.
pub(super) fn search_params(quantization: Quantization) -> SearchParams {
    let params = SearchParamsBuilder::default().hnsw_ef(IN_VIEW as u64);
    match quantization.oversampling() {
        None => params.build(),
        Some(factor) => {
            let exact = QuantizationSearchParamsBuilder::default();
            params.quantization(exact.rescore(true).oversampling(factor)).build()
        }
    }
}

/// What a selector means; an empty filter is everything.
pub(super) fn filter(selector: &Selector) -> Filter {
    let before = |ms: u64| Some(ms as f64);
    let condition = match selector {
        Selector::All => return Filter::default(),
        Selector::Answer(id) => Condition::matches(ANSWER, id.to_string()),
        Selector::Model(name) => Condition::matches(MODEL, name.clone()),
        Selector::Route(name) => Condition::matches(ROUTE, name.clone()),
        Selector::Tenant(name) => Condition::matches(TENANT, name.clone()),
        Selector::Tag(name) => Condition::matches(TAGS, name.clone()),
        Selector::Both(both) => {
            return Filter::must([filter(&both.0).into(), filter(&both.1).into()]);
        }
        Selector::Before(ms) => {
            Condition::range(GENERATED_MS, Range { lt: before(*ms), ..Range::default() })
        }
        Selector::ExpiredAt(ms) => {
            Condition::range(EXPIRES_MS, Range { lte: before(*ms), ..Range::default() })
        }
    };
    Filter::must([condition])
}

/// Only this partition.
pub(super) fn in_partition(partition: &Arc<str>) -> Filter {
    Filter::must([Condition::matches(PARTITION, partition.to_string())])
}

fn answer(payload: &HashMap<String, Value>) -> Result<EntryId, StoreFault> {
    text(payload, ANSWER)?.parse().map_err(|error: String| damaged(ANSWER, &error))
}

fn tags(payload: &HashMap<String, Value>) -> Vec<String> {
    let Some(Kind::ListValue(list)) = payload.get(TAGS).and_then(|value| value.kind.as_ref())
    else {
        return Vec::new();
    };
    let texts = list.values.iter().filter_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

fn text<'a>(payload: &'a HashMap<String, Value>, name: &str) -> Result<&'a str, StoreFault> {
    match payload.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Ok(text),
        _ => Err(damaged(name, &"not a text")),
    }
}

fn number(payload: &HashMap<String, Value>, name: &str) -> Result<u64, StoreFault> {
    match payload.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::IntegerValue(number)) => {
            u64::try_from(*number).map_err(|error| damaged(name, &error))
        }
        _ => Err(damaged(name, &"not a number")),
    }
}

fn damaged(name: &str, why: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::Failed(format!("the stored field `{name}` is damaged: {why}"))
}
