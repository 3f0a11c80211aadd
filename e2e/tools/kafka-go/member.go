package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	recordsMax     = 50
	gatherTime     = 20 * time.Millisecond
	fetchWaitMax   = 100 * time.Millisecond
	backoffOnError = 500 * time.Millisecond
)

// member is one member of a group. It tells as JSON lines what it owns, sees and commits; SIGTERM makes it leave.
// Options: bootstrap, group, topics, assignor, session, heartbeat.
func member(options map[string]string) error {
	stopped, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	var balancer kafka.GroupBalancer = kafka.RangeGroupBalancer{}
	if options["assignor"] == "roundrobin" {
		balancer = kafka.RoundRobinGroupBalancer{}
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                     options["group"],
		Brokers:                []string{options["bootstrap"]},
		Topics:                 strings.Split(options["topics"], ","),
		GroupBalancers:         []kafka.GroupBalancer{balancer},
		SessionTimeout:         milliseconds(options["session"]),
		HeartbeatInterval:      milliseconds(options["heartbeat"]),
		RebalanceTimeout:       20 * time.Second,
		JoinGroupBackoff:       backoffOnError,
		StartOffset:            kafka.FirstOffset,
		WatchPartitionChanges:  true,
		PartitionWatchInterval: 2 * time.Second,
		Logger:                 log.New(os.Stderr, "", log.Ltime|log.Lmicroseconds),
	})
	if err != nil {
		return err
	}
	say("started", fields{"pid": os.Getpid()})
	for {
		generation, err := group.Next(stopped)
		if stopped.Err() != nil {
			break
		}
		if err != nil {
			// It joins again by itself; only what it should not have met at all is trouble.
			event := "trouble"
			var code kafka.Error
			if errors.As(err, &code) && code.Temporary() {
				event = "retried"
			}
			say(event, fields{"message": err.Error()})
			continue
		}
		for topic, assignments := range generation.Assignments {
			for _, assignment := range assignments {
				generation.Start(func(ended context.Context) {
					consume(ended, options["bootstrap"], generation, topic, assignment)
				})
			}
		}
	}
	if err := group.Close(); err != nil {
		return err
	}
	say("closed", fields{"clean": true})
	return nil
}

// consume reads one partition until its generation ends. What was seen is committed before that.
func consume(ended context.Context, bootstrap string, generation *kafka.Generation, topic string, start kafka.PartitionAssignment) {
	if ended.Err() != nil {
		return
	}
	partition := fmt.Sprintf("%s-%d", topic, start.ID)
	say("assigned", fields{"partitions": []string{partition}, "generation": generation.ID, "member": generation.MemberID})
	defer func() { say("revoked", fields{"partitions": []string{partition}}) }()
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, Partition: start.ID,
		MinBytes: 1, MaxBytes: 1 << 20, MaxWait: fetchWaitMax, ReadBackoffMin: 10 * time.Millisecond, ReadBackoffMax: 100 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(start.Offset); err != nil {
		say("trouble", fields{"message": err.Error()})
		return
	}
	for ended.Err() == nil {
		offsets := gather(ended, reader)
		if len(offsets) == 0 {
			continue
		}
		say("records", fields{"partition": partition, "offsets": offsets})
		next := offsets[len(offsets)-1] + 1
		if err := generation.CommitOffsets(map[string]map[int]int64{topic: {start.ID: next}}); err != nil {
			event := "trouble"
			if errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.IllegalGeneration) {
				event = "fenced"
			}
			say(event, fields{"message": err.Error()})
			return
		}
		say("committed", fields{"offsets": map[string]int64{partition: next}})
	}
}

// gather waits for a record and takes what follows it closely.
func gather(ended context.Context, reader *kafka.Reader) []int64 {
	var offsets []int64
	within, cancel := context.WithCancel(ended)
	for len(offsets) < recordsMax {
		message, err := reader.FetchMessage(within)
		if err != nil {
			break
		}
		offsets = append(offsets, message.Offset)
		cancel()
		within, cancel = context.WithTimeout(ended, gatherTime)
	}
	cancel()
	return offsets
}

func milliseconds(text string) time.Duration {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return time.Duration(number) * time.Millisecond
}
