// One member of a group through kafkajs. It tells as JSON lines what it owns, sees and commits; SIGTERM makes it leave.
// Arguments are key=value: bootstrap, group, topics or pattern, session, heartbeat.
'use strict'

const { Kafka, logLevel } = require('kafkajs')

const options = Object.fromEntries(process.argv.slice(2).map(word => {
  const equals = word.indexOf('=')
  return [word.slice(0, equals), word.slice(equals + 1)]
}))

function say(event, fields) {
  const at = Math.round((performance.timeOrigin + performance.now()) * 1000)
  process.stdout.write(JSON.stringify({ at, event, ...fields }) + '\n')
}

// Fenced members are told apart: what they processed last may come again.
const FENCED = new Set(['UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION'])

let owned = []
// The assignment of the last join: when the next one fails half way, the library goes on with it.
let held = []
let stopping = false

function give(event) {
  if (owned.length > 0) say(event, { partitions: owned })
  owned = []
}

async function main() {
  const kafka = new Kafka({
    clientId: options.client || 'kafkajs',
    brokers: [options.bootstrap],
    logLevel: logLevel.ERROR,
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 1000 },
  })
  const consumer = kafka.consumer({
    groupId: options.group,
    sessionTimeout: Number(options.session),
    heartbeatInterval: Number(options.heartbeat),
    rebalanceTimeout: 20000,
    maxWaitTimeInMs: 100,
    metadataMaxAge: 2000,
  })
  consumer.on(consumer.events.REBALANCING, () => give('revoked'))
  consumer.on(consumer.events.CRASH, ({ payload }) => say('trouble', { message: String(payload.error) }))
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    // Without a rebalance event before it, the member was fenced and joins as a new one.
    give('lost')
    held = Object.entries(payload.memberAssignment).flatMap(([topic, ids]) => ids.map(id => `${topic}-${id}`)).sort()
    owned = held
    say('assigned', { partitions: owned, member: payload.memberId })
  })
  process.on('SIGTERM', async () => {
    stopping = true
    await consumer.stop()
    give('revoked')
    await consumer.disconnect()
    say('closed', { clean: true })
    process.exit(0)
  })
  await consumer.connect()
  const topics = options.topics ? options.topics.split(',') : [new RegExp(options.pattern)]
  await consumer.subscribe({ topics, fromBeginning: true })
  say('started', { pid: process.pid })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      if (stopping || !isRunning() || isStale()) return
      const offsets = batch.messages.map(message => Number(message.offset))
      if (offsets.length === 0) return
      const last = offsets[offsets.length - 1]
      if (owned.length === 0) {
        owned = held
        say('assigned', { partitions: owned })
      }
      say('records', { partition: `${batch.topic}-${batch.partition}`, offsets })
      try {
        await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset: String(last + 1) }])
        say('committed', { offsets: { [`${batch.topic}-${batch.partition}`]: last + 1 } })
      } catch (failure) {
        // The reason decides whether the library joins again, and it hides it behind its retries.
        const error = failure.cause || failure
        say(FENCED.has(error.type) ? 'fenced' : 'trouble', { message: String(error) })
        throw error
      }
      resolveOffset(String(last))
      await heartbeat()
    },
  })
}

main().catch(error => {
  say('failed', { message: String(error) })
  process.exit(1)
})
