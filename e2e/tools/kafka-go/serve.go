package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	lineBytesMax  = 64 << 20
	batchBytesMax = 1_040_000
	patience      = 30 * time.Second
	metadataPause = 100 * time.Millisecond
	metadataAge   = 100 * time.Millisecond
)

// The library answers questions about topics from what it heard last, and by default that may be seconds old.
var transport = &kafka.Transport{MetadataTTL: metadataAge}

// record is what the harness writes and reads; bytes are base64 in JSON, and null is not empty.
type record struct {
	Offset    int64       `json:"offset"`
	Timestamp *int64      `json:"timestamp"`
	Key       *[]byte     `json:"key"`
	Value     *[]byte     `json:"value"`
	Headers   [][2]*jsony `json:"headers"`
}

// jsony is a header's name or its value in base64.
type jsony string

type request struct {
	Op         string            `json:"op"`
	Bootstrap  string            `json:"bootstrap"`
	Topic      string            `json:"topic"`
	Group      string            `json:"group"`
	Partition  int               `json:"partition"`
	Partitions json.RawMessage   `json:"partitions"`
	Total      int32             `json:"total"`
	Codec      string            `json:"codec"`
	Records    []record          `json:"records"`
	Count      int               `json:"count"`
	Offset     int64             `json:"offset"`
	Config     map[string]string `json:"config"`
	Name       string            `json:"name"`
	Value      string            `json:"value"`
	Offsets    map[string]int64  `json:"offsets"`
}

// serve carries out requests, one answer a line: {"ok": ...} or {"code": ..., "message": ...}.
func serve(input io.Reader) error {
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, lineBytesMax)
	output := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(context.Background(), patience)
		answer := map[string]any{}
		got, err := asked.carryOut(within)
		cancel()
		if err == nil {
			answer["ok"] = got
		} else {
			answer["message"] = err.Error()
			var code kafka.Error
			if errors.As(err, &code) {
				answer["code"] = int(code)
			}
		}
		if err := output.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (asked *request) carryOut(within context.Context) (any, error) {
	client := &kafka.Client{Addr: kafka.TCP(asked.Bootstrap), Transport: transport}
	switch asked.Op {
	case "write":
		if _, err := asked.ids(within, client); err != nil {
			return nil, err
		}
		return len(asked.Records), asked.write(within)
	case "read":
		return asked.read(within)
	case "create_topic":
		return nil, asked.createTopic(within, client)
	case "delete_topic":
		answer, err := client.DeleteTopics(within, &kafka.DeleteTopicsRequest{Topics: []string{asked.Topic}})
		if err != nil {
			return nil, err
		}
		return nil, answer.Errors[asked.Topic]
	case "topics":
		answer, err := client.Metadata(within, &kafka.MetadataRequest{})
		if err != nil {
			return nil, err
		}
		names := []string{}
		for _, topic := range answer.Topics {
			names = append(names, topic.Name)
		}
		sort.Strings(names)
		return names, nil
	case "partitions":
		ids, err := asked.ids(within, client)
		return len(ids), err
	case "create_partitions":
		answer, err := client.CreatePartitions(within, &kafka.CreatePartitionsRequest{
			Topics: []kafka.TopicPartitionsConfig{{Name: asked.Topic, Count: asked.Total}},
		})
		if err != nil {
			return nil, err
		}
		return nil, answer.Errors[asked.Topic]
	case "alter_config":
		answer, err := client.IncrementalAlterConfigs(within, &kafka.IncrementalAlterConfigsRequest{
			Resources: []kafka.IncrementalAlterConfigsRequestResource{{
				ResourceType: kafka.ResourceTypeTopic, ResourceName: asked.Topic,
				Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: asked.Name, Value: asked.Value}},
			}},
		})
		if err != nil {
			return nil, err
		}
		return nil, answer.Resources[0].Error
	case "config":
		return asked.config(within, client)
	case "offsets":
		answer, err := asked.offsets(within, client)
		// The client's own picture of the cluster, which it renews now and then, may lack a partition that is new.
		for errors.Is(err, kafka.BrokerNotAvailable) && within.Err() == nil {
			time.Sleep(metadataPause)
			answer, err = asked.offsets(within, client)
		}
		if err != nil {
			return nil, err
		}
		found := answer.Topics[asked.Topic][0]
		return []int64{found.FirstOffset, found.LastOffset}, found.Error
	case "groups":
		answer, err := client.ListGroups(within, &kafka.ListGroupsRequest{})
		if err != nil {
			return nil, err
		}
		groups := map[string]any{}
		for _, group := range answer.Groups {
			groups[group.GroupID] = nil
		}
		return groups, answer.Error
	case "group":
		return asked.group(within, client)
	case "committed":
		return asked.committed(within, client)
	case "commit":
		return nil, asked.commit(within, client)
	case "delete_offsets":
		return nil, asked.deleteOffsets(within, client)
	case "delete_group":
		answer, err := client.DeleteGroups(within, &kafka.DeleteGroupsRequest{GroupIDs: []string{asked.Group}})
		if err != nil {
			return nil, err
		}
		return nil, answer.Errors[asked.Group]
	}
	return nil, fmt.Errorf("unknown request %q", asked.Op)
}

func (asked *request) offsets(within context.Context, client *kafka.Client) (*kafka.ListOffsetsResponse, error) {
	return client.ListOffsets(within, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		asked.Topic: {kafka.FirstOffsetOf(asked.Partition), kafka.LastOffsetOf(asked.Partition)},
	}})
}

// write sends everything to one partition and waits for all acknowledgements.
func (asked *request) write(within context.Context) error {
	codecs := map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	writer := &kafka.Writer{
		Addr: kafka.TCP(asked.Bootstrap), Transport: transport, Topic: asked.Topic, RequiredAcks: kafka.RequireAll,
		Balancer:   kafka.BalancerFunc(func(kafka.Message, ...int) int { return asked.Partition }),
		BatchBytes: batchBytesMax, BatchTimeout: 20 * time.Millisecond, Compression: codecs[asked.Codec],
	}
	messages := []kafka.Message{}
	for _, each := range asked.Records {
		message := kafka.Message{}
		if each.Key != nil {
			message.Key = *each.Key
		}
		if each.Value != nil {
			message.Value = *each.Value
		}
		if each.Timestamp != nil {
			message.Time = time.UnixMilli(*each.Timestamp)
		}
		for _, pair := range each.Headers {
			header, err := headerOf(pair)
			if err != nil {
				return err
			}
			message.Headers = append(message.Headers, header)
		}
		messages = append(messages, message)
	}
	if err := writer.WriteMessages(within, messages...); err != nil {
		var several kafka.WriteErrors
		if errors.As(err, &several) {
			for _, one := range several {
				if one != nil {
					return one
				}
			}
		}
		return err
	}
	return writer.Close()
}

func headerOf(pair [2]*jsony) (kafka.Header, error) {
	header := kafka.Header{Key: string(*pair[0])}
	if pair[1] == nil {
		return header, nil
	}
	return header, json.Unmarshal([]byte(strconv.Quote(string(*pair[1]))), &header.Value)
}

func (asked *request) read(within context.Context) (any, error) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{asked.Bootstrap}, Topic: asked.Topic, Partition: asked.Partition,
		MinBytes: 1, MaxBytes: 8 << 20, MaxWait: fetchWaitMax,
	})
	defer reader.Close()
	if err := reader.SetOffset(asked.Offset); err != nil {
		return nil, err
	}
	got := []record{}
	for len(got) < asked.Count {
		message, err := reader.ReadMessage(within)
		if err != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(got), asked.Count, err)
		}
		timestamp := message.Time.UnixMilli()
		shown := record{Offset: message.Offset, Timestamp: &timestamp, Headers: [][2]*jsony{}}
		if message.Key != nil {
			shown.Key = &message.Key
		}
		if message.Value != nil {
			shown.Value = &message.Value
		}
		for _, header := range message.Headers {
			name := jsony(header.Key)
			pair := [2]*jsony{&name, nil}
			if header.Value != nil {
				text, err := json.Marshal(header.Value)
				if err != nil {
					return nil, err
				}
				value := jsony(text[1 : len(text)-1])
				pair[1] = &value
			}
			shown.Headers = append(shown.Headers, pair)
		}
		got = append(got, shown)
	}
	return got, nil
}

func (asked *request) createTopic(within context.Context, client *kafka.Client) error {
	var count int
	if err := json.Unmarshal(asked.Partitions, &count); err != nil {
		return err
	}
	entries := []kafka.ConfigEntry{}
	for name, value := range asked.Config {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	answer, err := client.CreateTopics(within, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: asked.Topic, NumPartitions: count, ReplicationFactor: 1, ConfigEntries: entries},
	}})
	if err != nil {
		return err
	}
	return answer.Errors[asked.Topic]
}

func (asked *request) config(within context.Context, client *kafka.Client) (any, error) {
	answer, err := client.DescribeConfigs(within, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: asked.Topic, ConfigNames: []string{asked.Name}},
	}})
	if err != nil {
		return nil, err
	}
	if answer.Resources[0].Error != nil {
		return nil, answer.Resources[0].Error
	}
	return answer.Resources[0].ConfigEntries[0].ConfigValue, nil
}

func (asked *request) group(within context.Context, client *kafka.Client) (any, error) {
	answer, err := client.DescribeGroups(within, &kafka.DescribeGroupsRequest{GroupIDs: []string{asked.Group}})
	if err != nil {
		return nil, err
	}
	found := answer.Groups[0]
	assigned := []string{}
	for _, each := range found.Members {
		for _, topic := range each.MemberAssignments.Topics {
			for _, id := range topic.Partitions {
				assigned = append(assigned, fmt.Sprintf("%s-%d", topic.Topic, id))
			}
		}
	}
	sort.Strings(assigned)
	return map[string]any{"state": found.GroupState, "members": len(found.Members), "assigned": assigned}, found.Error
}

// ids lists the partitions of the topic.
func (asked *request) ids(within context.Context, client *kafka.Client) ([]int, error) {
	answer, err := client.Metadata(within, &kafka.MetadataRequest{Topics: []string{asked.Topic}})
	for err == nil && errors.Is(answer.Topics[0].Error, kafka.UnknownTopicOrPartition) {
		// It has not heard of the topic yet.
		time.Sleep(metadataAge)
		answer, err = client.Metadata(within, &kafka.MetadataRequest{Topics: []string{asked.Topic}})
	}
	if err != nil {
		return nil, err
	}
	ids := []int{}
	for _, partition := range answer.Topics[0].Partitions {
		ids = append(ids, partition.ID)
	}
	return ids, answer.Topics[0].Error
}

func (asked *request) committed(within context.Context, client *kafka.Client) (any, error) {
	ids, err := asked.ids(within, client)
	if err != nil {
		return nil, err
	}
	answer, err := client.OffsetFetch(within, &kafka.OffsetFetchRequest{
		GroupID: asked.Group, Topics: map[string][]int{asked.Topic: ids},
	})
	if err != nil {
		return nil, err
	}
	committed := map[int]int64{}
	for _, partition := range answer.Topics[asked.Topic] {
		if partition.Error != nil {
			return nil, partition.Error
		}
		if partition.CommittedOffset >= 0 {
			committed[partition.Partition] = partition.CommittedOffset
		}
	}
	return committed, answer.Error
}

func (asked *request) commit(within context.Context, client *kafka.Client) error {
	commits := []kafka.OffsetCommit{}
	for text, offset := range asked.Offsets {
		id, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		commits = append(commits, kafka.OffsetCommit{Partition: id, Offset: offset})
	}
	answer, err := client.OffsetCommit(within, &kafka.OffsetCommitRequest{
		GroupID: asked.Group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{asked.Topic: commits},
	})
	if err != nil {
		return err
	}
	for _, partition := range answer.Topics[asked.Topic] {
		if partition.Error != nil {
			return partition.Error
		}
	}
	return nil
}

func (asked *request) deleteOffsets(within context.Context, client *kafka.Client) error {
	var ids []int
	if err := json.Unmarshal(asked.Partitions, &ids); err != nil {
		return err
	}
	answer, err := client.OffsetDelete(within, &kafka.OffsetDeleteRequest{
		GroupID: asked.Group, Topics: map[string][]int{asked.Topic: ids},
	})
	if err != nil {
		return err
	}
	for _, partition := range answer.Topics[asked.Topic] {
		if partition.Error != nil {
			return partition.Error
		}
	}
	return answer.Error
}
